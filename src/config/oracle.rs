//! Checks that hold for every input, beside the code they check: bodies for property tests and fuzz targets.

use super::error::Place;
use super::load::{load_text, redact};

/// Loads `data` as a config. Panics unless every error has a place, what was expected and what was found, and a config
/// without errors is the same after it went out as its effective JSON and in again.
pub fn check_config(data: &[u8]) {
    match load_text(data) {
        Ok(config) => {
            let effective = redact(&config).to_string();
            let again = load_text(effective.as_bytes());
            assert_eq!(again.as_ref(), Ok(&config), "the effective config differs: {effective}");
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            for error in errors {
                let is_told = !error.expected.is_empty() && !error.found.is_empty();
                assert!(is_told && !error.path.to_string().is_empty(), "{error:?}");
                if let Place::Text { line, column } = error.path {
                    assert!(line >= 1 && column >= 1, "{error:?}");
                }
                assert!(!error.to_string().contains('\n'), "{error:?}");
            }
        }
    }
}
