use std::time::Duration;

use wasmtime::component::{Component, Instance, Linker};
use wasmtime::{Store, Trap};

use super::super::Runtime;
use super::{Watch, instrument};

/// A component whose functions take no time, or all of it, in every way that there is.
fn source() -> String {
    let fills = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))".repeat(4_000);
    let functions = ["quick", "loop", "tail", "recursion", "tree", "fills"];
    let lifted: String = functions
        .iter()
        .map(|name| {
            let result = if *name == "quick" { "(result u32)" } else { "" };
            format!("(func (export \"{name}\") {result} (canon lift (core func $i \"{name}\")))")
        })
        .collect();
    format!(
        r#"(component
          (core module $m
            (memory 1024)
            (func (export "quick") (result i32)
              (local $n i32)
              (loop $again
                (local.set $n (i32.add (local.get $n) (i32.const 7)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 700))))
              (local.get $n))
            (func (export "loop") (loop $again (br $again)))
            (func $tail (export "tail") (return_call $tail))
            (func $down (param i32)
              (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))))
              (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))))
            (func (export "recursion") (call $down (i32.const 60)))
            {tree}
            (func (export "tree") (call $t0))
            (func (export "fills") {fills}))
          (core instance $i (instantiate $m))
          {lifted})"#,
        // Each calls the next one twice: no loop, no recursion, 2^50 calls.
        tree = (0..50)
            .map(|i| format!("(func $t{i} (call $t{0}) (call $t{0}))", i + 1))
            .chain(["(func $t50)".to_owned()])
            .collect::<String>(),
    )
}

struct Made {
    store: Store<()>,
    instance: Instance,
    watch: std::sync::Arc<Watch>,
}

impl Made {
    fn new(runtime: &Runtime, bytes: &[u8]) -> Self {
        let engine = &runtime.side(false).engine;
        let component = Component::from_binary(engine, &instrument(bytes).unwrap()).unwrap();
        let mut store = Store::new(engine, ());
        let watch = runtime.ticker.watch();
        let make = || Linker::new(engine).instantiate(&mut store, &component).unwrap();
        let instance = watch.making(make);
        Self { store, instance, watch }
    }

    /// Calls a function that returns nothing, for 40 ms at most.
    fn call(&mut self, name: &str) -> (wasmtime::Result<()>, bool) {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let call = || function.call(&mut self.store, &[], &mut []);
        self.watch.within(Duration::from_millis(40), call)
    }

    fn quick(&mut self) -> u32 {
        let function = self.instance.get_typed_func::<(), (u32,)>(&mut self.store, "quick");
        let function = function.unwrap();
        let call = || function.call(&mut self.store, ());
        self.watch.within(Duration::from_secs(60), call).0.unwrap().0
    }
}

#[test]
fn whatever_takes_too_long_is_ended_and_nothing_else_is() {
    let runtime = Runtime::new(None).unwrap();
    let bytes = wat::parse_str(source()).unwrap();
    for name in ["loop", "tail", "recursion", "tree", "fills"] {
        let (mut made, mut other) = (Made::new(&runtime, &bytes), Made::new(&runtime, &bytes));
        assert_eq!(made.quick(), 700);
        let (result, ended) = made.call(name);
        let error = result.expect_err(name);
        assert!(ended, "{name}: {error:?}");
        assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{name}");
        assert_eq!(other.quick(), 700, "{name}");
    }
}

#[test]
fn a_call_that_ends_just_when_it_becomes_late_leaves_nothing_behind() {
    let runtime = Runtime::new(None).unwrap();
    let mut made = Made::new(&runtime, &wat::parse_str(source()).unwrap());
    let mut late = 0;
    for i in 0..40 {
        let sleep = || std::thread::sleep(Duration::from_micros(4_000 + 250 * i));
        late += u32::from(made.watch.within(Duration::from_millis(1), sleep).1);
        assert_eq!(made.quick(), 700);
    }
    assert!(late > 0, "some of them are late");
}

#[test]
fn what_only_points_may_have_is_refused() {
    let of = |module: &str| {
        let bytes = wat::parse_str(format!("(component (core module {module}))")).unwrap();
        instrument(&bytes).map(|_| ())
    };
    assert_eq!(of("(memory 1) (func (drop (i32.load (i32.const 0))))"), Ok(()));
    assert_eq!(of("(import \"a\" \"b\" (memory 1)) (func (drop (memory.size)))"), Ok(()));
    let error = of("(memory 0 48271)").unwrap_err();
    assert!(error.contains("a size that the host keeps for itself"), "{error}");
    let error = of("(import \"a\" \"b\" (memory 0 48271))").unwrap_err();
    assert!(error.contains("a size that the host keeps for itself"), "{error}");
    for module in [
        "(func (drop (i32.load (i32.const 0))))",
        "(memory 1) (func (drop (memory.grow 1 (i32.const 1))))",
        "(memory 1) (export \"m\" (memory 1)) (func)",
        "(memory 1) (data (memory 1) (i32.const 0) \"x\") (func)",
    ] {
        let error = of(module).unwrap_err();
        assert!(error.contains("unknown memory"), "{module}: {error}");
    }
}
