//! A method that does not exist.

ringfort::routes! {
    static ROUTES: u8 = {
        GET | FETCH "/" => 1,
    }
}

fn main() {}
