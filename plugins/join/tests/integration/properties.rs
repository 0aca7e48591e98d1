//! What holds for any input.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};

use crate::driver::{Driver, Input, Output, watermarks};
use crate::one_call;

/// Records of both sides in disorder, each with its number as its value. A side often goes on for a
/// while, since the harness cuts batches where the input changes.
fn records(count: usize) -> impl Strategy<Value = Vec<Input>> {
    let back = prop_oneof![5 => Just(0_i64), 3 => 0..8_i64, 1 => 0..60_i64];
    let other = prop_oneof![2 => Just(0_u8), 1 => Just(1)];
    let record = (0..3_usize, other, 0..6_i64, back);
    (prop::collection::vec(record, 0..count), 0..12_i64).prop_map(|(records, delay)| {
        let (mut now, mut port) = (-30, 0);
        let mut inputs = Vec::new();
        for (key, other, step, back) in records {
            (now, port) = (now + step, (port + other) % 2);
            let value = inputs.len().to_string();
            inputs.push(Input::new(port, ["a", "b", "c"][key], now - back, value));
        }
        watermarks(&mut inputs, delay);
        inputs
    })
}

#[derive(Debug, Clone)]
struct Setting {
    kind: &'static str,
    before: i64,
    after: i64,
    lateness: i64,
}

impl Setting {
    fn json(&self) -> String {
        let Self { kind, before, after, lateness } = self;
        format!(r#"{{"join":"{kind}","before":{before},"after":{after},"lateness":{lateness}}}"#)
    }

    fn alone(&self, port: u8) -> bool {
        self.kind == "outer" || self.kind == ["left", "right"][usize::from(port)]
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let kind = prop_oneof![Just("inner"), Just("left"), Just("right"), Just("outer")];
    (kind, -6..20_i64, 0..20_i64, 0..10_i64).prop_map(|(kind, before, width, lateness)| Setting {
        kind,
        before,
        after: width - before,
        lateness,
    })
}

/// Results as they should be, found by trying every pair: numbers of a left and a right record.
fn expected(inputs: &[Input], setting: &Setting) -> (Vec<[Option<usize>; 2]>, Vec<usize>) {
    let is_late = |i: &Input| i.time + setting.lateness <= i.watermark;
    let late: Vec<usize> = (0..inputs.len()).filter(|i| is_late(&inputs[*i])).collect();
    let of =
        |port: u8| inputs.iter().enumerate().filter(move |(_, i)| i.port == port && !is_late(i));
    let mut results = Vec::new();
    let mut had = vec![false; inputs.len()];
    for (l, left) in of(0) {
        for (r, right) in of(1) {
            let apart = right.time - left.time;
            if left.key == right.key && -setting.before <= apart && apart <= setting.after {
                (had[l], had[r]) = (true, true);
                results.push([Some(l), Some(r)]);
            }
        }
    }
    results
        .extend(of(0).filter(|(l, _)| setting.alone(0) && !had[*l]).map(|(l, _)| [Some(l), None]));
    results
        .extend(of(1).filter(|(r, _)| setting.alone(1) && !had[*r]).map(|(r, _)| [None, Some(r)]));
    results.sort_unstable();
    (results, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn batching_never_shows(
        inputs in records(100),
        setting in settings(),
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let run = |sizes: &[usize]| {
            let mut driver = Driver::new(&setting.json());
            driver.feed(&inputs, sizes, WATERMARK_END);
            assert_eq!(driver.keys_kept(), 0);
            driver.by_key()
        };
        let one_by_one = run(&[1]);
        for sizes in [&[7][..], &[1000], &cuts] {
            prop_assert_eq!(&run(sizes), &one_by_one);
        }
    }

    #[test]
    fn results_are_those_of_trying_every_pair(inputs in records(100), setting in settings()) {
        let driver = Driver::run(&setting.json(), &inputs);
        let (expected, late) = expected(&inputs, &setting);
        let number = |v: &serde_json::Value| v.as_u64().map(|n| n as usize);
        let mut found: Vec<_> =
            driver.values().iter().map(|v| [number(&v["left"]), number(&v["right"])]).collect();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        let rejected: Vec<_> = driver.rejected.iter().map(|r| r.index).collect();
        prop_assert_eq!(rejected, late);
        prop_assert!(driver.rejected.iter().all(|r| r.kind == RejectionKind::Late));
    }

    #[test]
    fn no_result_is_late_for_a_stage_with_the_same_lateness(
        inputs in records(100),
        setting in settings(),
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let mut driver = Driver::new(&setting.json());
        driver.feed(&inputs, &cuts, WATERMARK_END);
        for output in &driver.outputs {
            prop_assert!(output.time + setting.lateness > output.watermark, "{output:?}");
        }
    }

    #[test]
    fn records_of_both_inputs_in_one_batch_are_as_those_one_by_one(
        inputs in records(100), setting in settings(),
    ) {
        let (outputs, _) = one_call::run(&setting.json(), &inputs);
        let mut driver = Driver::new(&setting.json());
        driver.feed(&inputs, &[1], WATERMARK_END);
        let mut one_by_one = BTreeMap::<String, Vec<Output>>::new();
        for output in driver.outputs {
            one_by_one.entry(output.key.clone()).or_default().push(output);
        }
        prop_assert_eq!(outputs, one_by_one);
    }
}
