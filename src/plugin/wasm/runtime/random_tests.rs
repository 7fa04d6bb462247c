//! Guests that pass anything at all: no host function panics, writes outside of the guest's memory, or answers with what is
//! no answer.

use proptest::prelude::*;
use wasmtime::{Extern, Func, Store, Val, ValType};

use super::fields::Of;
use super::host::Host;
use super::memory::Reach;
use super::stream::Stage;
use super::testing::{compile, setting};

/// A guest of which only memory and allocator are used; the allocator gives back what `next` says: room, nothing, places
/// outside, the end of the memory.
const GUEST: &str = r#"(module
    (memory (export "memory") 2 4)
    (global $next (export "next") (mut i32) (i32.const 0))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32)
      (if (i32.eq (global.get $next) (i32.const 7)) (then unreachable))
      (drop (memory.grow (i32.and (global.get $next) (i32.const 1))))
      global.get $next))"#;

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..16_u32,
        4 => 0..70_000_u32,
        2 => 131_000..131_100_u32,
        2 => Just(u32::MAX),
        1 => u32::MAX - 16..=u32::MAX,
        1 => Just(i32::MAX as u32),
        1 => any::<u32>(),
    ]
}

/// Calls of host functions, in some order, each with more numbers than any of them takes.
fn calls() -> impl Strategy<Value = Vec<(prop::sample::Index, Vec<u32>, u32)>> {
    let place = prop_oneof![Just(0), Just(7), Just(1024), Just(131_070), Just(u32::MAX), number()];
    prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(number(), 12), place), 1..60)
}

struct World {
    store: Store<Host>,
    functions: Vec<(String, Func)>,
    next: wasmtime::Global,
}

fn world() -> World {
    let program = compile(GUEST).expect("the guest compiles");
    let mut store = Store::new(&program.machine.engine, Host::new(setting("random", "configuration")));
    store.limiter(|host| &mut host.memory);
    store.set_epoch_deadline(1 << 40);
    let made = program.pre.instantiate(&mut store).expect("it can be made");
    let memory = made.get_memory(&mut store, "memory").expect("it has one");
    // Sizes and texts that mean something, among much that does not.
    for (index, byte) in memory.data_mut(&mut store).iter_mut().enumerate() {
        *byte = [0, 0, 0, 1, b'a', b':', 0, 0, 0, 255, b'x', 0][index % 12];
    }
    let allocate = made.get_typed_func(&mut store, "malloc").ok();
    let next = made.get_global(&mut store, "next").expect("it has one");
    store.data_mut().reach = Some(Reach { memory, allocate });
    let (id, stream) = store.data_mut().streams.open().expect("there is room");
    stream.request.headers.reset(Of::Request);
    stream.request.headers.load(b":path", b"/");
    stream.request.headers.load(b"a", b"b");
    stream.request.stage = Stage::Open;
    stream.response.stage = Stage::Open;
    stream.request.body.extend_from_slice(&[7; 5000]);
    store.data_mut().effective = id;
    let found = program.machine.linker.iter(&mut store).collect::<Vec<_>>();
    let functions = found.into_iter().filter_map(|(module, name, external)| match external {
        Extern::Func(function) => Some((format!("{module}.{name}"), function)),
        _ => None,
    });
    World { functions: functions.collect(), store, next }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_arguments_get_an_answer(calls in calls()) {
        let World { mut store, functions, next } = world();
        for (which, numbers, place) in calls {
            let (name, function) = which.get(&functions);
            next.set(&mut store, Val::I32(place as i32)).unwrap();
            let kind = function.ty(&store);
            let parameters = kind.params().zip(&numbers).map(|(kind, number)| match kind {
                ValType::I64 => Val::I64(i64::from(*number as i32)),
                _ => Val::I32(*number as i32),
            });
            let parameters = parameters.collect::<Vec<_>>();
            let mut results = vec![Val::I32(0); kind.results().len()];
            let called = function.call(&mut store, &parameters, &mut results);
            let may_fail = name.ends_with("proc_exit") || place == 7;
            prop_assert!(called.is_ok() || may_fail, "{name} {parameters:?}: {called:?}");
            if let [Val::I32(status)] = results.as_slice() {
                prop_assert!((0..=12).contains(status) || name.starts_with("wasi") && [21, 28, 58].contains(status), "{name} {status}");
            }
            let host = store.data();
            prop_assert!(!host.is_giving);
            prop_assert!(host.streams.len() <= 1);
        }
    }
}

#[test]
fn every_function_of_the_abi_is_there() {
    let World { functions, .. } = world();
    let has = |name: &str| functions.iter().any(|(known, _)| known.ends_with(&format!(".{name}")));
    for name in [
        "proxy_log",
        "proxy_get_log_level",
        "proxy_get_current_time_nanoseconds",
        "proxy_set_tick_period_milliseconds",
        "proxy_set_buffer_bytes",
        "proxy_get_buffer_bytes",
        "proxy_get_buffer_status",
        "proxy_get_header_map_size",
        "proxy_get_header_map_pairs",
        "proxy_set_header_map_pairs",
        "proxy_get_header_map_value",
        "proxy_add_header_map_value",
        "proxy_replace_header_map_value",
        "proxy_remove_header_map_value",
        "proxy_continue_stream",
        "proxy_close_stream",
        "proxy_get_status",
        "proxy_send_local_response",
        "proxy_http_call",
        "proxy_grpc_call",
        "proxy_grpc_stream",
        "proxy_grpc_send",
        "proxy_grpc_cancel",
        "proxy_grpc_close",
        "proxy_set_shared_data",
        "proxy_get_shared_data",
        "proxy_register_shared_queue",
        "proxy_resolve_shared_queue",
        "proxy_enqueue_shared_queue",
        "proxy_dequeue_shared_queue",
        "proxy_define_metric",
        "proxy_record_metric",
        "proxy_increment_metric",
        "proxy_get_metric",
        "proxy_get_property",
        "proxy_set_property",
        "proxy_done",
        "proxy_set_effective_context",
        "proxy_call_foreign_function",
        "fd_write",
        "clock_time_get",
        "random_get",
        "environ_sizes_get",
        "environ_get",
        "args_sizes_get",
        "args_get",
        "proc_exit",
    ] {
        assert!(has(name), "{name}");
    }
}
