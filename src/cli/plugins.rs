//! `ringfort plugins`: the plugins that a config can use, and the options of one.

use std::io;

use serde_json::{Value, json};

use super::arguments::PluginsOptions;
use super::listing::align;
use super::{Exit, Session};
use crate::plugin;

pub(super) fn plugins(session: &mut Session<'_>, options: &PluginsOptions) -> io::Result<Exit> {
    let Some(name) = &options.name else { return list(session, options.json) };
    let Some(known) = plugin::find(name) else {
        session.complain(format!("no plugin named {name:?}; `ringfort plugins` lists them"))?;
        return Ok(Exit::Failed);
    };
    let schema = (known.schema)();
    if options.json {
        session.say_json(&schema)?;
        return Ok(Exit::Done);
    }
    session.say(format!("{}: {}", known.name, known.about))?;
    for line in align(&option_rows(&schema)) {
        session.say(line)?;
    }
    Ok(Exit::Done)
}

fn list(session: &mut Session<'_>, as_json: bool) -> io::Result<Exit> {
    let known = plugin::registrations();
    if as_json {
        let list: Vec<_> = known.iter().map(|one| json!({ "name": one.name, "about": one.about })).collect();
        session.say_json(&Value::Array(list))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = known.iter().map(|one| [one.name.to_owned(), one.about.to_owned()]).collect();
    for line in align(&rows) {
        session.say(line)?;
    }
    Ok(Exit::Done)
}

/// One row for each option: its name, its default, what it is for.
fn option_rows(schema: &Value) -> Vec<[String; 3]> {
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.into_iter().flatten().any(|other| other == name)
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let rows = properties.into_iter().flatten().map(|(name, property)| {
        let default = match property.get("default") {
            Some(default) => format!("default {default}"),
            None if required(name) => "required".to_owned(),
            None => "optional".to_owned(),
        };
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
        [format!("  {name}"), default, about.split_whitespace().collect::<Vec<_>>().join(" ")]
    });
    rows.collect()
}
