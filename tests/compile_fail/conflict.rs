//! Two routes that differ only in the name of a parameter.

fn show() {}
fn edit() {}

ringfort::routes! {
    static ROUTES: fn() = {
        GET "/users/list" => show,
        GET | POST "/users/:id" => show,
        PUT | POST "/users/:name" => edit,
    }
}

fn main() {}
