//! A module and what is said about it: `NAME.wasm`, and `NAME.json` beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::program::{hash_of, hex};
use crate::limits::{WASM_MANIFEST_BYTES_MAX, WASM_MODULE_BYTES_MAX};
use crate::units::{ByteSize, TimeSpan};

/// What a manifest may say. All of it may be missing, and so may the manifest.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// What people call the plugin.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub(crate) about: Option<String>,
    /// The SHA-256 of the module, in hexadecimal digits: another one is refused.
    #[serde(default)]
    pub(crate) sha256: Option<String>,
    /// What the plugin is configured with where the config does not say.
    #[serde(default)]
    pub(crate) configuration: Option<Value>,
    /// Which of the module's plugins is used where the config does not say.
    #[serde(default)]
    pub(crate) root_id: Option<String>,
    /// Memory of one instance where the config does not say.
    #[serde(default)]
    pub(crate) memory: Option<ByteSize>,
    /// CPU time of one call where the config does not say.
    #[serde(default)]
    pub(crate) time: Option<TimeSpan>,
}

/// A module as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
}

/// Reads a module and its manifest.
///
/// # Errors
/// A sentence with the file's name.
pub(crate) fn read(dir: &Path, module: &str) -> Result<Found, String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if module.is_empty() || module.starts_with('.') || !module.bytes().all(is_name) {
        return Err("a module's name has letters, digits and ._- and does not begin with a dot".to_owned());
    }
    let path = dir.join(format!("{module}.wasm"));
    let bytes = read_file(&path, WASM_MODULE_BYTES_MAX).map_err(|error| say(&path, &error))?;
    let path = dir.join(format!("{module}.json"));
    let manifest = match read_file(&path, WASM_MANIFEST_BYTES_MAX) {
        Ok(text) => serde_json::from_slice::<Manifest>(&text).map_err(|error| say(&path, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest::default(),
        Err(error) => return Err(say(&path, &error)),
    };
    if let Some(wanted) = &manifest.sha256 {
        let hash = hex(&hash_of(&bytes));
        if !wanted.eq_ignore_ascii_case(&hash) {
            return Err(format!("{}: the module's SHA-256 is {hash}, not {wanted}", path.display()));
        }
    }
    Ok(Found { bytes, manifest })
}

fn say(path: &Path, error: &dyn std::error::Error) -> String {
    format!("{}: {error}", path.display())
}

fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("the file is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// What a guest is configured with: a text as it is, anything else as JSON.
pub(crate) fn configuration_of(value: Option<&Value>) -> Vec<u8> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(other) => other.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_is_passed_as_it_is_and_anything_else_as_json() {
        let cases = [
            (None, ""),
            (Some(json!(null)), ""),
            (Some(json!("plain {text}")), "plain {text}"),
            (Some(json!({"b": [1, true], "a": "x"})), r#"{"b":[1,true],"a":"x"}"#),
            (Some(json!(3)), "3"),
        ];
        for (value, expected) in cases {
            assert_eq!(configuration_of(value.as_ref()), expected.as_bytes());
        }
    }

    #[test]
    fn a_manifest_with_an_unknown_key_is_refused() {
        assert!(serde_json::from_value::<Manifest>(json!({ "sha265": "" })).is_err());
        let manifest: Manifest =
            serde_json::from_value(json!({ "memory": "4MiB", "time": "2ms", "name": "x" })).unwrap();
        assert_eq!(manifest.memory.map(ByteSize::get), Some(4 << 20));
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", ".", "..", "a/b", "../a", ".hidden", "a\0b", "é"] {
            assert!(read(Path::new("/"), name).unwrap_err().contains("a module's name"), "{name:?}");
        }
    }
}
