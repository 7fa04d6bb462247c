//! A wildcard that is not last.

ringfort::routes! {
    static ROUTES: u8 = {
        GET "/files/*path/raw" => 1,
    }
}

fn main() {}
