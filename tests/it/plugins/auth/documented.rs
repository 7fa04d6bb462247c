//! The configs of the pages.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use ringfort::cli::{Application, Exit, run_application};

use super::{Directory, data};

#[test]
fn the_config_of_each_page_is_valid() {
    for name in ["api-key", "basic-auth", "forward-auth", "jwt"] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/plugins/{name}.md"));
        let page = fs::read_to_string(page).unwrap();
        let blocks: Vec<_> = page.split("```json\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
        assert!(!blocks.is_empty(), "{name}");
        let directory = Directory::new();
        directory.file("partner.key", "0123456789abcdef\n");
        directory.file("api-keys.txt", &format!("# keys\n\nshop {}\n", "5a".repeat(32)));
        directory.file("users", "ann:$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n");
        directory.file("rsa.pem", &fs::read_to_string(data("jwt/rsa.pem")).unwrap());
        for block in blocks {
            let config = directory.file("ringfort.json", block);
            let args = ["ringfort", "check", "--config", &config].map(OsString::from);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let exit = run_application(args, std::iter::empty(), &mut out, &mut err, &Application::new(&[]));
            let said = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            assert_eq!(exit, Exit::Done, "{name}: {said}");
        }
    }
}
