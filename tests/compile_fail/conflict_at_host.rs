//! One host spelled in two ways, and one static path.

ringfort::routes! {
    static ROUTES: u8 = {
        GET "/x" => 1,
        ANY "/x" host "api.example.com" => 2,
        GET "/x" host "API.example.com." => 3,
    }
}

fn main() {}
