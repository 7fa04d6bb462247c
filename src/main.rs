//! The `ringfort` command: a thin door to `ringfort::cli`.

fn main() {}
