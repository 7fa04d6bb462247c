//! The pages of the plugins in `docs/plugins`: their configs are good ones, and their tables of options are those of the
//! schema. `UPDATE_DOCS=1` writes the tables anew. A page without the mark where such a table begins has one of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ringfort::cli::{Application, Exit, run_application};
use ringfort::plugin;
use serde_json::Value;

const BEGIN: &str = "<!-- options: written from the schema, UPDATE_DOCS=1 cargo test --test it plugins::docs -->\n";
/// Pages whose configs name files: `auth/documented.rs` has those, and the tests of `wasm` its.
const WITH_FILES: [&str; 5] = ["api-key", "basic-auth", "forward-auth", "jwt", "wasm"];
const END: &str = "<!-- end of options -->\n";

/// All pages: the plugin's name, the file, the text.
fn pages() -> Vec<(String, PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<_> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (name, path, text)
        })
        .collect();
    pages.sort();
    pages
}

fn ringfort(args: &[&str]) -> (Exit, String, String) {
    let args = std::iter::once("ringfort").chain(args.iter().copied()).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_application(args, std::iter::empty(), &mut out, &mut err, &Application::new(&[]));
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The fenced blocks of this language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn each_plugin_has_a_page_with_a_config_that_is_good() {
    let pages = pages();
    for known in plugin::registrations() {
        assert!(pages.iter().any(|(name, ..)| name == known.name), "docs/plugins/{}.md is missing", known.name);
    }
    let directory = std::env::temp_dir().join(format!("ringfort-it-docs-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for (name, _, text) in pages.into_iter().filter(|(name, ..)| !WITH_FILES.contains(&name.as_str())) {
        let configs = blocks(&text, "json");
        assert!(!configs.is_empty(), "docs/plugins/{name}.md shows no config");
        for (index, config) in configs.into_iter().enumerate() {
            let file = directory.join(format!("{name}-{index}.json"));
            fs::write(&file, config).unwrap();
            let (exit, out, err) = ringfort(&["check", "--config", file.to_str().unwrap()]);
            assert_eq!(exit, Exit::Done, "docs/plugins/{name}.md, config {}: {out}{err}", index + 1);
            let uses = format!("\"use\": \"{name}\"");
            assert!(
                plugin::find(&name).is_none() || config.contains(&uses),
                "{name}: no {uses} in config {}",
                index + 1
            );
        }
    }
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_table_of_options_is_that_of_the_schema() {
    let updates = std::env::var_os("UPDATE_DOCS").is_some();
    for (name, path, text) in pages() {
        let Some((before, rest)) = text.split_once(BEGIN) else { continue };
        let (exit, out, err) = ringfort(&["plugins", &name, "--json"]);
        assert_eq!(exit, Exit::Done, "{err}");
        let table = table(&serde_json::from_str(&out).unwrap());
        let (shown, after) = rest.split_once(END).unwrap_or((rest, ""));
        if shown == table {
            continue;
        }
        assert!(
            updates,
            "docs/plugins/{name}.md: the table of options is not that of the schema; UPDATE_DOCS=1 writes it"
        );
        fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    }
}

/// The options as a Markdown table.
fn table(schema: &Value) -> String {
    let mut rows = Vec::new();
    add_rows(&mut rows, "", schema);
    if rows.is_empty() {
        return "None.\n".to_owned();
    }
    let rows = rows.iter().map(|[name, default, about]| format!("| `{name}` | {default} | {about} |\n"));
    format!("| option | default | what it is |\n|---|---|---|\n{}", rows.collect::<String>())
}

fn add_rows(rows: &mut Vec<[String; 3]>, prefix: &str, schema: &Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let inner = [property].into_iter().chain(property["anyOf"].as_array().into_iter().flatten());
        let inner: Vec<_> = inner.filter(|branch| branch["properties"].is_object()).collect();
        let default = match property.get("default") {
            // What it has inside says it in rows of its own.
            Some(Value::Object(_)) if !inner.is_empty() => String::new(),
            None | Some(Value::Null) if !required.iter().any(|other| other == name) => "none".to_owned(),
            Some(default) => format!("`{default}`"),
            None => "required".to_owned(),
        };
        let about = property["description"].as_str().unwrap_or_default();
        let values =
            property["enum"].as_array().map(|values| values.iter().map(|value| format!("`{value}`")).collect());
        let described = property["oneOf"].as_array().into_iter().flatten();
        let described = described.filter_map(|value| {
            let about = value["description"].as_str().unwrap_or_default().trim_end_matches('.');
            Some(format!("`{}`: {about}", value.get("const")?))
        });
        let values: Vec<String> = values.unwrap_or_else(|| described.collect());
        let about = [about.to_owned(), values.join("; ")].join(" ");
        let about = about.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        rows.push([path.clone(), default.replace('|', "\\|"), about]);
        for schema in inner {
            add_rows(rows, &format!("{path}."), schema);
        }
    }
}
