//! Holds the map of `src/` as data and fails, naming file, line and module, where the source departs from it.

mod offenders;
mod promises;
mod scan;

use scan::{Declaration, Kind, Reference, Scope, Scopes, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// One top-level module. It may name every module of a lower row, itself, and the siblings listed here.
struct Module {
    row: u8,
    name: &'static str,
    /// [u]: may hold `unsafe`.
    is_unsafe_allowed: bool,
    siblings: &'static [&'static str],
}

const fn module(row: u8, name: &'static str, siblings: &'static [&'static str]) -> Module {
    Module { row, name, is_unsafe_allowed: false, siblings }
}

const fn module_with_unsafe(row: u8, name: &'static str, siblings: &'static [&'static str]) -> Module {
    Module { row, name, is_unsafe_allowed: true, siblings }
}

/// The map, in the order in which `lib.rs` declares it. A module that is not written yet is simply absent from `src/`.
/// `CONTRIBUTING.md` shows the same table to people; a test below keeps the two equal.
const MAP: &[Module] = &[
    module(0, "limits", &[]),
    module(0, "clock", &[]),
    module(0, "sync", &[]),
    module(0, "units", &[]),
    module(0, "secret", &[]),
    module_with_unsafe(1, "sys", &[]),
    module_with_unsafe(1, "rt", &["sys", "pool", "metrics"]),
    module_with_unsafe(1, "pool", &["metrics"]),
    module_with_unsafe(1, "metrics", &[]),
    module(1, "log", &[]),
    module(1, "lifecycle", &["rt", "metrics", "log"]),
    module(2, "tls", &[]),
    module(2, "http", &[]),
    module(2, "router", &["http"]),
    module(3, "handler", &[]),
    module(3, "proxy", &["handler"]),
    module(3, "plugin", &["handler", "proxy"]),
    module(3, "conn", &["handler"]),
    module(4, "config", &[]),
    module(4, "admin", &["config"]),
    module(4, "worker", &["config"]),
    module(5, "master", &[]),
    module(5, "cli", &["master"]),
];

/// A name that belongs to few modules, so that what it stands for can be replaced or simulated in one place.
struct Reserved {
    /// Paths, matched at any position: `["Instant", "now"]` also finds `std::time::Instant::now`.
    paths: &'static [&'static [&'static str]],
    homes: &'static [&'static str],
    is_free_in_tests: bool,
    instead: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        paths: &[&["compio"], &["monoio"], &["glommio"]],
        homes: &["rt"],
        is_free_in_tests: false,
        instead: "only `rt` knows the executors; use its facade",
    },
    Reserved {
        paths: &[&["Instant", "now"], &["SystemTime", "now"], &["clock_gettime"]],
        homes: &["clock"],
        is_free_in_tests: false,
        instead: "only `clock` reads the time, so that the simulator owns it",
    },
    Reserved {
        paths: &[&["TcpListener"], &["TcpStream"], &["socket2"]],
        homes: &["sys", "rt"],
        is_free_in_tests: true,
        instead: "sockets are opened by `sys` and served by `rt`",
    },
    Reserved {
        paths: &[&["simd_json"]],
        homes: &["config"],
        is_free_in_tests: false,
        instead: "only `config` reads JSON",
    },
];

/// Names that say nothing about what is inside, so that anything ends up there.
const NAMELESS: &[&str] = &["util", "utils", "common", "misc"];

/// Lines that a file may have, tests included.
const FILE_LINES_MAX: usize = 600;
/// `worker.rs` is the file that a newcomer reads first.
const WORKER_LINES_MAX: usize = 300;
/// Files that are longer for a reason: `("http/table.rs", "why")`.
const LONG_FILES: &[(&str, &str)] = &[];

/// A file under `src/`.
struct Source {
    /// Relative to `src/`, with `/`.
    path: String,
    text: String,
}

/// One departure from the map.
struct Offence {
    path: String,
    line: usize,
    what: String,
}

impl Display for Offence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "src/{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A file, read: what every rule looks at.
struct Read<'a> {
    source: &'a Source,
    tokens: Vec<Token>,
    scopes: Scopes,
    references: Vec<Reference>,
}

impl<'a> Read<'a> {
    fn new(source: &'a Source) -> Self {
        let tokens = scan::tokens(&source.text);
        let is_test = source.path.rsplit('/').next() == Some("tests.rs");
        let scopes = scan::scopes(&tokens, Scope { path: module_path(&source.path), is_test });
        let references = scan::references(&tokens);
        Read { source, tokens, scopes, references }
    }

    /// The top-level module that the file belongs to; `None` for `lib.rs` and `main.rs`.
    fn top(&self) -> Option<String> {
        module_path(&self.source.path).into_iter().next()
    }

    fn module(&self) -> Option<&'static Module> {
        self.top().and_then(|top| find_module(&top))
    }

    fn is_in(&self, homes: &[&str]) -> bool {
        self.top().is_some_and(|top| homes.contains(&top.as_str()))
    }

    fn offence(&self, line: usize, what: impl Into<String>) -> Offence {
        Offence { path: self.source.path.clone(), line, what: what.into() }
    }

    /// How messages call the file's module.
    fn subject(&self) -> String {
        match (self.module(), self.top()) {
            (Some(module), _) => format!("module `{}` (row {})", module.name, module.row),
            (None, Some(top)) => format!("module `{top}`"),
            (None, None) => format!("`{}`", self.source.path),
        }
    }
}

/// `http/mod.rs` is `[http]`, `http/parse.rs` is `[http, parse]`; the crate roots `lib.rs` and `main.rs` are `[]`.
fn module_path(path: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if matches!(stem, "lib" | "main") { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

fn find_module(name: &str) -> Option<&'static Module> {
    MAP.iter().find(|module| module.name == name)
}

/// Every rule over a whole tree, in the order of the files.
fn offences(sources: &[Source]) -> Vec<Offence> {
    let files = sources.iter().map(Read::new).collect::<Vec<_>>();
    let macros = macro_homes(&files);
    let test_modules = test_modules(&files);
    let mut found = Vec::new();
    for file in &files {
        check_header(file, &mut found);
        check_length(file, &mut found);
        check_module_names(file, &mut found);
        check_unsafe(file, &mut found);
        check_reserved(file, &test_modules, &mut found);
        match file.source.path.as_str() {
            "lib.rs" => check_map_order(file, &files, &mut found),
            "main.rs" => check_main(file, &mut found),
            _ => check_layers(file, &macros, &mut found),
        }
    }
    // Two leaves of one `use` are one thing to mend.
    found.dedup_by(|one, other| (&one.path, one.line, &one.what) == (&other.path, other.line, &other.what));
    found
}

/// The module that defines each `macro_rules!`, since an exported macro is named as if it stood in the crate's root.
fn macro_homes(files: &[Read<'_>]) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for file in files {
        for three in file.tokens.windows(3) {
            let is_definition = three[0].ident() == Some("macro_rules") && three[1].is_punct('!');
            if let (true, Some(name), Some(top)) = (is_definition, three[2].ident(), file.top()) {
                homes.insert(name.to_owned(), top);
            }
        }
    }
    homes
}

/// Modules in files of their own that are declared `#[cfg(test)] mod name;` elsewhere.
fn test_modules(files: &[Read<'_>]) -> BTreeSet<Vec<String>> {
    let declared = files.iter().flat_map(|file| &file.scopes.declarations);
    declared.filter(|declaration| declaration.is_test).map(|declaration| declaration.path.clone()).collect()
}

fn check_header(file: &Read<'_>, found: &mut Vec<Offence>) {
    let first = file.source.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_none_or(|header| header.trim().is_empty()) {
        found.push(file.offence(1, format!("{} has a file that does not begin with a `//!` header", file.subject())));
    }
}

fn check_length(file: &Read<'_>, found: &mut Vec<Offence>) {
    let lines = file.source.text.lines().count();
    let path = file.source.path.as_str();
    let max = if path == "worker.rs" { WORKER_LINES_MAX } else { FILE_LINES_MAX };
    let is_excused = LONG_FILES.iter().any(|(excused, _)| *excused == path);
    if lines > max && !is_excused {
        found.push(file.offence(lines, format!("{lines} lines, at most {max}: divide the file by what it holds")));
    } else if lines <= max && is_excused {
        found.push(file.offence(lines, "no longer too long: take it off LONG_FILES"));
    }
}

fn check_module_names(file: &Read<'_>, found: &mut Vec<Offence>) {
    let path = module_path(&file.source.path);
    for name in path.iter().filter(|name| NAMELESS.contains(&name.as_str())) {
        found.push(file.offence(1, format!("`{name}` says nothing about its contents: name the noun it holds")));
    }
    for declaration in &file.scopes.declarations {
        let name = declaration.path.last().map(String::as_str).unwrap_or_default();
        if NAMELESS.contains(&name) {
            let what = format!("`mod {name}` says nothing about its contents: name the noun it holds");
            found.push(file.offence(declaration.line, what));
        }
    }
    if !path.is_empty() && file.module().is_none() {
        found.push(file.offence(1, format!("{} is not in the table of modules", file.subject())));
    }
}

fn check_unsafe(file: &Read<'_>, found: &mut Vec<Offence>) {
    if file.module().is_some_and(|module| module.is_unsafe_allowed) {
        return;
    }
    let homes = MAP.iter().filter(|module| module.is_unsafe_allowed).map(|module| module.name).collect::<Vec<_>>();
    let homes = homes.join(", ");
    for (at, token) in file.tokens.iter().enumerate() {
        let what = match token.ident() {
            Some("unsafe") => "`unsafe`",
            Some("unsafe_code") if is_permission(&file.tokens[..at]) => "permission for `unsafe_code`",
            _ => continue,
        };
        found.push(file.offence(token.line, format!("{} holds {what}, which only {homes} may", file.subject())));
    }
}

/// Whether a lint named after `before` is loosened: the nearest opening parenthesis belongs to `allow`, `expect` or `warn`.
fn is_permission(before: &[Token]) -> bool {
    let opening = before.iter().rposition(|token| token.is_punct('('));
    let level = opening.and_then(|at| at.checked_sub(1)).and_then(|at| before[at].ident());
    matches!(level, Some("allow" | "expect" | "warn"))
}

fn check_reserved(file: &Read<'_>, test_modules: &BTreeSet<Vec<String>>, found: &mut Vec<Offence>) {
    for (at, token) in file.tokens.iter().enumerate() {
        let scope = file.scopes.at(at);
        let is_test = scope.is_test || (1..=scope.path.len()).any(|end| test_modules.contains(&scope.path[..end]));
        for rule in RESERVED.iter().filter(|rule| !(file.is_in(rule.homes) || is_test && rule.is_free_in_tests)) {
            for path in rule.paths.iter().filter(|path| starts_with_path(&file.tokens[at..], path)) {
                let what = format!("{} names `{}`: {}", file.subject(), path.join("::"), rule.instead);
                found.push(file.offence(token.line, what));
            }
        }
    }
}

fn starts_with_path(tokens: &[Token], path: &[&str]) -> bool {
    path.iter().enumerate().all(|(at, name)| {
        let has_name = tokens.get(2 * at).and_then(Token::ident) == Some(name);
        has_name && (at == 0 || tokens[2 * at - 1].kind == Kind::PathSep)
    })
}

/// `lib.rs` declares the modules of the table that exist, in its order, and nothing else.
fn check_map_order(lib: &Read<'_>, files: &[Read<'_>], found: &mut Vec<Offence>) {
    let mut last: Option<usize> = None;
    for Declaration { line, path, .. } in lib.scopes.declarations.iter().filter(|declared| declared.path.len() == 1) {
        let Some(index) = MAP.iter().position(|module| module.name == path[0]) else {
            found.push(lib.offence(*line, format!("declares `{}`, which is not in the table of modules", path[0])));
            continue;
        };
        if let Some(before) = last.filter(|before| *before >= index) {
            let what = format!("declares `{}` after `{}`; the table has it before", path[0], MAP[before].name);
            found.push(lib.offence(*line, what));
        }
        last = last.max(Some(index));
    }
    for module in MAP {
        let exists = files.iter().any(|file| module_path(&file.source.path) == [module.name]);
        let is_declared = lib.scopes.declarations.iter().any(|declared| declared.path == [module.name]);
        if exists && !is_declared {
            found.push(lib.offence(1, format!("does not declare `{}`, so nothing compiles it", module.name)));
        }
    }
}

/// `main.rs` is a door: it names `ringfort` (and `std`, for the exit code), and has no modules of its own.
fn check_main(main: &Read<'_>, found: &mut Vec<Offence>) {
    for declaration in &main.scopes.declarations {
        found.push(main.offence(declaration.line, format!("declares `{}`; main.rs is one file", declaration.path[0])));
    }
    let is_door = |reference: &&Reference| matches!(reference.segments[0].as_str(), "ringfort" | "std");
    let bound = main.references.iter().filter(is_door).filter_map(|reference| reference.binds.as_deref());
    let bound = bound.collect::<BTreeSet<_>>();
    for reference in &main.references {
        let root = reference.segments[0].as_str();
        let is_type = reference.binds.is_none() && root.starts_with(char::is_uppercase);
        if !is_door(&reference) && !is_type && !bound.contains(root) {
            found.push(main.offence(reference.line, format!("names `{root}`; main.rs may name only `ringfort`")));
        }
    }
}

fn check_layers(file: &Read<'_>, macros: &BTreeMap<String, String>, found: &mut Vec<Offence>) {
    let Some(own) = file.module() else { return };
    for reference in &file.references {
        let here = &file.scopes.at(reference.token).path;
        let Some(path) = scan::absolute(&reference.segments, here) else { continue };
        let is_import = reference.binds.is_some();
        let Some(first) = path.first().map(String::as_str).or(is_import.then_some("self")) else { continue };
        let named = macros.get(first).map_or(first, String::as_str);
        let Some(named) = find_module(named) else {
            let what = format!("{} names `crate::{first}`, which is no module of the table: {SAY}", file.subject());
            found.push(file.offence(reference.line, what));
            continue;
        };
        if named.row >= own.row && named.name != own.name && !own.siblings.contains(&named.name) {
            let what = format!("{} must not name `{}` (row {}): {RULE}", file.subject(), named.name, named.row);
            found.push(file.offence(reference.line, what));
        }
    }
}

const SAY: &str = "name the module that holds the item";
const RULE: &str = "a module names only lower rows and its listed siblings";

/// Read when the test runs, not with `env!`: a target directory shared by several working trees keeps a binary that
/// was built in another one, and the test would then judge that tree, or one that is gone.
fn package_root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"))
}

fn read_sources(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("src/ can be listed");
    let mut paths = entries.map(|entry| entry.expect("src/ can be listed").path()).collect::<Vec<_>>();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_sources(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("a file below src/").to_string_lossy().replace('\\', "/");
            sources.push(Source { path: relative, text: fs::read_to_string(&path).expect("source is UTF-8") });
        }
    }
}

#[test]
fn source_keeps_to_the_map_of_modules() {
    let root = package_root().join("src");
    let mut sources = Vec::new();
    read_sources(&root, &root, &mut sources);
    assert!(sources.iter().any(|source| source.path == "lib.rs"), "src/ was read");
    let found = offences(&sources).iter().map(Offence::to_string).collect::<Vec<_>>();
    assert!(found.is_empty(), "{} departure(s) from the map of modules:\n{}", found.len(), found.join("\n"));
}

#[test]
fn contributing_shows_the_same_table() {
    let text = fs::read_to_string(package_root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md is there");
    let shown = text.lines().filter_map(table_row).collect::<Vec<_>>();
    let held = MAP.iter().map(|module| {
        let mark = if module.is_unsafe_allowed { "[u]" } else { "" };
        [module.row.to_string(), module.name.to_owned(), mark.to_owned(), module.siblings.join(", ")]
    });
    assert_eq!(shown, held.collect::<Vec<_>>(), "the map in CONTRIBUTING.md (left) and in this test (right) differ");
}

/// Row, name, mark and siblings of a line like ``| 1 | `rt/` | [u] | sys, pool | what it holds |``.
fn table_row(line: &str) -> Option<[String; 4]> {
    let cells = line.strip_prefix('|')?.split('|').map(str::trim).collect::<Vec<_>>();
    let [row, name, mark, siblings, ..] = cells[..] else { return None };
    row.parse::<u8>().ok()?;
    let name = name.trim_matches('`').trim_end_matches(".rs").trim_end_matches('/');
    Some([row, name, mark, siblings].map(str::to_owned))
}

/// Two siblings that name each other would be one module.
#[test]
fn listed_siblings_exist_in_the_same_row_and_form_no_cycle() {
    for module in MAP {
        let mut reached = module.siblings.to_vec();
        let mut at = 0;
        while at < reached.len() {
            let sibling = find_module(reached[at]).expect("a listed sibling is in the table");
            assert_eq!(sibling.row, module.row, "`{}` lists `{}` as a sibling", module.name, sibling.name);
            assert_ne!(sibling.name, module.name, "`{}` reaches itself through its siblings", module.name);
            reached.extend(sibling.siblings);
            at += 1;
        }
    }
}
