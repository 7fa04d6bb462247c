//! A host with a port.

ringfort::routes! {
    static ROUTES: u8 = {
        GET "/" host "example.com:8080" => 1,
    }
}

fn main() {}
