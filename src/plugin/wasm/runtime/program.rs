//! A compiled module: checked for all that can be known before it runs, and kept by the hash of its bytes, so that a reload
//! does not compile it again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};

use ring::digest::{SHA256, digest};
use wasmtime::{ExternType, FuncType, InstancePre, Module, ValType};

use super::abi::Version;
use super::engine::{Machine, machine};
use super::host::Host;
use crate::limits::{WASM_MODULE_BYTES_MAX, WASM_MODULES_KEPT};
use crate::sync::Mutex;

/// The hash by which modules are told from each other.
pub(crate) type Hash = [u8; 32];

/// Why a module cannot be used. Its author, or the operator, is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramError(pub(crate) String);

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A module that can be run.
pub(crate) struct Program {
    pub(crate) hash: Hash,
    pub(crate) machine: &'static Machine,
    pub(crate) pre: InstancePre<Host>,
    pub(crate) version: Version,
    /// Functions that it imports from this host.
    imports: Vec<String>,
    /// Functions that it exports.
    exports: Vec<String>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("hash", &hex(&self.hash))
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Modules that were compiled.
static KEPT: Kept<Program> = Kept::new();

/// What was made for some hashes.
struct Kept<T>(Mutex<Made<T>>);

struct Made<T> {
    /// What is kept though nobody may use it, that used last at the end: at most [`WASM_MODULES_KEPT`].
    recent: Vec<(Hash, Arc<T>)>,
    /// All that is used, however much it is: a config with more modules than are kept would else compile all of them anew at
    /// each reload, for it asks for them in the same order.
    used: BTreeMap<Hash, Weak<T>>,
}

impl<T> Kept<T> {
    const fn new() -> Self {
        Self(Mutex::new(Made { recent: Vec::new(), used: BTreeMap::new() }))
    }

    /// What is kept for this hash, or is made now and kept. What two make at the same time is made twice: one of them may run
    /// on a thread that gives way to all others, for which the other must not wait.
    fn find_or_make<E>(&self, hash: Hash, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).used.get(&hash).and_then(Weak::upgrade);
        let found = match known {
            Some(found) => found,
            None => Arc::new(make()?),
        };
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.recent.retain(|(other, _)| *other != hash);
        made.recent.push((hash, found.clone()));
        // It is freed when nobody waits for the list.
        let oldest = (made.recent.len() > WASM_MODULES_KEPT).then(|| made.recent.remove(0));
        made.used.retain(|_, used| used.strong_count() > 0);
        made.used.insert(hash, Arc::downgrade(&found));
        drop(made);
        drop(oldest);
        Ok(found)
    }
}

/// The hash of a module.
pub(crate) fn hash_of(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A hash as people write it.
pub(crate) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Program {
    /// The module of these bytes: the one that was compiled before, or it is compiled now, which takes up to some seconds.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub(crate) fn of(bytes: &[u8]) -> Result<Arc<Self>, ProgramError> {
        if bytes.len() > WASM_MODULE_BYTES_MAX {
            let found = bytes.len();
            return Err(ProgramError(format!(
                "the module has {found} bytes, at most {WASM_MODULE_BYTES_MAX} are read"
            )));
        }
        let hash = hash_of(bytes);
        KEPT.find_or_make(hash, || Self::compile(hash, bytes))
    }

    fn compile(hash: Hash, bytes: &[u8]) -> Result<Self, ProgramError> {
        let machine = machine().map_err(ProgramError)?;
        if !bytes.starts_with(b"\0asm") {
            return Err(ProgramError("this is no WebAssembly module: it does not begin with \"\\0asm\"".to_owned()));
        }
        let module = Module::from_binary(&machine.engine, bytes)
            .map_err(|error| ProgramError(format!("the module cannot be compiled: {error:#}")))?;
        let version = version_of(&module)?;
        check_exports(&module)?;
        let pre = machine
            .linker
            .instantiate_pre(&module)
            .map_err(|error| ProgramError(format!("the module imports what this server does not have: {error:#}")))?;
        let imports = module.imports().map(|import| import.name().to_owned()).collect();
        let exports = module.exports().map(|export| export.name().to_owned()).collect();
        Ok(Self { hash, machine, pre, version, imports, exports })
    }

    /// Whether it can call one of these functions of the host.
    pub(crate) fn imports_any(&self, names: &[&str]) -> bool {
        self.imports.iter().any(|import| names.contains(&import.as_str()))
    }

    /// Whether it has this callback.
    pub(crate) fn exports(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export == name)
    }
}

fn version_of(module: &Module) -> Result<Version, ProgramError> {
    let has = |version: &Version| module.get_export(version.export()).is_some();
    Version::ALL.into_iter().find(has).ok_or_else(|| {
        let others = module.exports().map(|export| export.name()).filter(|name| name.starts_with("proxy_abi_version_"));
        let others = others.collect::<Vec<_>>();
        let wanted = Version::ALL.map(Version::export).join(", ");
        ProgramError(match others.as_slice() {
            [] => format!("the module is no proxy-wasm plugin: it exports none of {wanted}"),
            others => {
                format!("the module is for another ABI: it exports {}, this server knows {wanted}", others.join(", "))
            }
        })
    })
}

/// The exports that the host calls, by the number of their parameters (all `i32`) and whether they give one back. Where two
/// numbers are given, the first is that of ABI 0.1.0.
pub(crate) const CALLBACKS: &[(&str, &[usize], bool)] = &[
    ("_initialize", &[0], false),
    ("_start", &[0], false),
    ("main", &[2], true),
    ("proxy_on_memory_allocate", &[1], true),
    ("malloc", &[1], true),
    ("proxy_on_context_create", &[2], false),
    ("proxy_on_vm_start", &[2], true),
    ("proxy_on_configure", &[2], true),
    ("proxy_on_request_headers", &[2, 3], true),
    ("proxy_on_request_body", &[3], true),
    ("proxy_on_request_trailers", &[2], true),
    ("proxy_on_response_headers", &[2, 3], true),
    ("proxy_on_response_body", &[3], true),
    ("proxy_on_response_trailers", &[2], true),
    ("proxy_on_done", &[1], true),
    ("proxy_on_log", &[1], false),
    ("proxy_on_delete", &[1], false),
    ("proxy_on_tick", &[1], false),
    ("proxy_on_http_call_response", &[5], false),
    ("proxy_on_queue_ready", &[2], false),
];

fn check_exports(module: &Module) -> Result<(), ProgramError> {
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => {}
        _ => return Err(ProgramError("the module does not export its memory as \"memory\"".to_owned())),
    }
    for (name, numbers, gives) in CALLBACKS {
        let Some(found) = module.get_export(name) else { continue };
        let fits = matches!(&found, ExternType::Func(function) if fits(function, numbers, *gives));
        if !fits {
            let numbers = numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
            let gives = if *gives { "an i32" } else { "nothing" };
            let what = format!("the module's export {name:?} is no function of {numbers} i32 that gives back {gives}");
            return Err(ProgramError(what));
        }
    }
    Ok(())
}

fn fits(function: &FuncType, numbers: &[usize], gives: bool) -> bool {
    let is_i32 = |value: ValType| matches!(value, ValType::I32);
    numbers.contains(&function.params().len())
        && function.params().all(is_i32)
        && function.results().len() == usize::from(gives)
        && function.results().all(is_i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn whoever_makes_something_again_waits_for_nobody_who_makes_it() {
        let kept = Kept::new();
        let make = |number: u32| move || Ok::<_, Infallible>(number);
        let first = kept.find_or_make([1; 32], || {
            // While one makes it, so does another, and is done.
            assert_eq!(kept.find_or_make([1; 32], make(2)), Ok(Arc::new(2)));
            make(1)()
        });
        assert_eq!(first, Ok(Arc::new(1)));
        assert_eq!(kept.find_or_make([1; 32], make(3)), Ok(Arc::new(1)), "it is kept");
        assert_eq!(kept.0.lock().unwrap().recent.len(), 1);
    }

    #[test]
    fn what_was_used_last_is_kept_and_what_fails_is_not() {
        let kept = Kept::new();
        assert_eq!(kept.find_or_make([0; 32], || Err::<usize, _>("no")), Err("no"));
        for number in 0..WASM_MODULES_KEPT + 1 {
            let hash = |number: usize| [u8::try_from(number).unwrap(); 32];
            assert_eq!(kept.find_or_make(hash(number), || Ok::<_, &str>(number)), Ok(Arc::new(number)));
            assert_eq!(kept.find_or_make(hash(0), || Err("it was kept")), Ok(Arc::new(0)));
        }
        assert_eq!(kept.0.lock().unwrap().recent.len(), WASM_MODULES_KEPT);
        assert_eq!(kept.find_or_make([1; 32], || Err("it was not kept")), Err("it was not kept"));
    }

    #[test]
    fn what_is_used_is_not_made_again_however_much_it_is() {
        let kept = Kept::new();
        let hash = |number: usize| [u8::try_from(number).unwrap(); 32];
        let make = |number| kept.find_or_make(hash(number), || Ok::<_, &str>(number)).unwrap();
        let used = (0..2 * WASM_MODULES_KEPT).map(make).collect::<Vec<_>>();
        for _ in 0..2 {
            for (number, used) in used.iter().enumerate() {
                let found = kept.find_or_make(hash(number), || Err("it was not kept"));
                assert!(found.is_ok_and(|found| Arc::ptr_eq(&found, used)), "{number}");
            }
        }
        drop(used);
        kept.find_or_make(hash(0), || Ok::<_, &str>(0)).unwrap();
        let made = kept.0.lock().unwrap();
        assert_eq!(
            (made.recent.len(), made.used.len()),
            (WASM_MODULES_KEPT, WASM_MODULES_KEPT + 1),
            "the rest is forgotten"
        );
    }
}
