//! Values that nobody may see: passwords, keys. Where a config is shown, they are not.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// What stands for a secret where a config is shown.
pub const HIDDEN: &str = "(hidden)";
/// Bytes of a file that holds a secret: no key is longer, and a device file given by mistake ends the read.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// A secret: in the config itself, in an environment variable or in a file.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// The secret itself.
    Text(String),
    /// The name of a variable that holds it.
    Env(FromEnv),
    /// A file that holds it; a line end behind it is not part of it.
    File(FromFile),
}

/// In an environment variable.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromEnv {
    env: String,
}

/// In a file.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromFile {
    file: PathBuf,
}

impl Secret {
    /// The secret; the paths of files start from `base_dir`.
    ///
    /// # Errors
    /// What was expected and what was found, without the secret.
    pub fn read(&self, base_dir: &Path) -> Result<Vec<u8>, (String, String)> {
        let secret = match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Env(FromEnv { env: name }) => match env::var_os(name) {
                Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
                None => return Err(("an environment variable that is set".to_owned(), format!("{name:?}"))),
            },
            Self::File(FromFile { file }) => {
                let path = base_dir.join(file);
                let expected = || "a file that can be read".to_owned();
                let mut text =
                    fs::read(&path).map_err(|error| (expected(), format!("\"{}\": {error}", path.display())))?;
                if text.len() > SECRET_BYTES_MAX {
                    let found = format!("\"{}\", of {} bytes", path.display(), text.len());
                    return Err((format!("a file of at most {SECRET_BYTES_MAX} bytes"), found));
                }
                while text.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                    text.pop();
                }
                text
            }
        };
        if secret.is_empty() { Err(("a secret".to_owned(), "an empty one".to_owned())) } else { Ok(secret) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str(HIDDEN),
            Self::Env(FromEnv { env }) => write!(f, "the variable {env:?}"),
            Self::File(FromFile { file }) => write!(f, "the file {file:?}"),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(_) => serializer.serialize_str(HIDDEN),
            Self::Env(FromEnv { env }) => serializer.collect_map([("env", env)]),
            Self::File(FromFile { file }) => serializer.collect_map([("file", file)]),
        }
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |key: &str, about: &str| {
            json_schema!({
                "type": "object", "properties": { key: { "type": "string", "description": about } }, "required": [key],
                "additionalProperties": false,
            })
        };
        let env = one("env", "The name of an environment variable that holds it.");
        let file = one("file", "A file that holds it; a line end behind it is not part of it.");
        json_schema!({ "anyOf": [{ "type": "string", "x-secret": true }, env, file] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<u8>, (String, String)> {
        serde_json::from_str::<Secret>(json).unwrap().read(Path::new("."))
    }

    #[test]
    fn a_secret_is_read_from_where_it_is() {
        assert_eq!(read("\"s3cret\"").unwrap(), b"s3cret");
        assert!(!read(r#"{"env": "PATH"}"#).unwrap().is_empty());
        assert!(!read(r#"{"file": "Cargo.toml"}"#).unwrap().ends_with(b"\n"));
        assert!(read(r#"{"env": "RINGFORT_NO_SUCH_VARIABLE"}"#).unwrap_err().1.contains("RINGFORT_NO_SUCH_VARIABLE"));
        assert!(read(r#"{"file": "/nonexistent"}"#).unwrap_err().1.contains("/nonexistent"));
        assert!(read("\"\"").is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        for json in ["\"s3cret\"", r#"{"env": "NAME"}"#, r#"{"file": "key"}"#] {
            let secret = serde_json::from_str::<Secret>(json).unwrap();
            assert!(!format!("{secret:?} {}", serde_json::to_string(&secret).unwrap()).contains("s3cret"));
        }
    }
}
