//! What holds for any input.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::driver::{Driver, Input, watermarks};
use crate::onward;
use aggregate::Aggregate;
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};

/// Records in disorder that fit every measure: a user, a session's figures, a result's window.
pub fn records(count: usize) -> impl Strategy<Value = Vec<Input>> {
    let back = prop_oneof![5 => Just(0_i64), 3 => 0..8_i64, 1 => 0..60_i64];
    let record = (0..3_usize, 0..6_i64, back, "[a-d]", 1..5_u64, 0..9_i64);
    (prop::collection::vec(record, 0..count), 0..12_i64).prop_map(|(records, delay)| {
        let mut now = -30;
        let mut inputs = Vec::new();
        for (key, step, back, user, events, ahead) in records {
            now += step;
            let start = (now + ahead).div_euclid(10) * 10;
            let value = format!(
                r#"{{"window_start_ms":{start},"window_end_ms":{},"user":"{user}","count":{events},"events":{events},"duration_ms":{ahead}}}"#,
                start + 10
            );
            inputs.push(Input::new(["/a", "/b", "/c"][key], now - back, value));
        }
        watermarks(&mut inputs, delay);
        inputs
    })
}

fn configs() -> impl Strategy<Value = String> {
    let measure = prop_oneof![Just("pages"), Just("visits"), Just("users")];
    let early = prop::option::of(1..25_i64);
    let windowed = (measure, 1..20_i64, 1..20_i64, 0..20_i64, 0..6_i64, early).prop_map(
        |(measure, size, hop, offset, lateness, early)| {
            let window = format!(r#"{{"size":{size},"hop":{hop},"offset":{offset}}}"#);
            let early = early.map_or(String::new(), |every| format!(r#","emit-every":{every}"#));
            format!(r#"{{"measure":"{measure}","window":{window},"lateness":{lateness}{early}}}"#)
        },
    );
    let top = (1..4, 0..6).prop_map(|(top, lateness)| {
        format!(r#"{{"measure":"top","top":{top},"lateness":{lateness}}}"#)
    });
    prop_oneof![3 => windowed, 1 => top]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn batching_never_shows(
        inputs in records(100),
        config in configs(),
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let run = |sizes: &[usize]| {
            let mut driver = Driver::<Aggregate>::new(&config);
            driver.feed(&inputs, sizes, WATERMARK_END);
            assert!(driver.keys_kept().is_empty());
            driver.by_key()
        };
        let one_by_one = run(&[1]);
        for sizes in [&[7][..], &[1000], &cuts] {
            prop_assert_eq!(&run(sizes), &one_by_one);
        }
    }

    #[test]
    fn page_counts_are_those_of_trying_every_window(
        inputs in records(100),
        size in 1..20_i64, hop in 1..20_i64, offset in 0..20_i64, lateness in 0..6_i64,
    ) {
        let config = format!(
            r#"{{"measure":"pages","window":{{"size":{size},"hop":{hop},"offset":{offset}}},"lateness":{lateness}}}"#
        );
        let driver = Driver::<Aggregate>::run(&config, &inputs);
        let mut expected = BTreeMap::<(i64, String), (u64, BTreeSet<String>)>::new();
        let mut late = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            let (mut open, mut closed) = (false, false);
            for start in (-200..800).map(|i| offset + i * hop) {
                if !(start..start + size).contains(&input.time) {
                    continue;
                }
                if start + size - 1 + lateness <= input.watermark {
                    closed = true;
                    continue;
                }
                open = true;
                let value: serde_json::Value = serde_json::from_str(&input.value).unwrap();
                let entry = expected.entry((start, input.key.clone())).or_default();
                entry.0 += 1;
                entry.1.insert(value["user"].as_str().unwrap().to_owned());
            }
            if closed && !open {
                late.push(index);
            }
        }
        let mut found = BTreeMap::new();
        for v in driver.values(0) {
            let at = (v["window_start_ms"].as_i64().unwrap(), v["page"].as_str().unwrap().into());
            let counts = (v["count"].as_u64().unwrap(), v["unique_users"].as_u64().unwrap());
            prop_assert!(found.insert(at, counts).is_none(), "a window is reported once");
        }
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(at, (n, users))| (at, (n, users.len() as u64))).collect();
        prop_assert_eq!(found, expected);
        let mut rejected: Vec<_> = driver.rejected.iter().map(|r| r.index).collect();
        rejected.sort_unstable();
        prop_assert_eq!(rejected, late);
        prop_assert!(driver.rejected.iter().all(|r| r.kind == RejectionKind::Late));
    }

    #[test]
    fn results_are_never_late_for_the_ranking_behind_them(
        inputs in records(100),
        size in 1..20_i64, hop in 1..20_i64, lateness in 0..6_i64,
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let config = format!(
            r#"{{"measure":"pages","window":{{"size":{size},"hop":{hop}}},"lateness":{lateness}}}"#
        );
        let mut pages = Driver::<Aggregate>::new(&config);
        pages.feed(&inputs, &cuts, WATERMARK_END);
        let config = format!(r#"{{"measure":"top","lateness":{lateness}}}"#);
        let mut top = Driver::<Aggregate>::new(&config);
        top.feed(&onward(&pages.outputs, "all"), &cuts, WATERMARK_END);
        prop_assert_eq!(&top.rejected, &[]);
        // Three pages fit into a ranking of ten: every result is in the one ranking of its window.
        let ranked: usize =
            top.values(0).iter().map(|v| v["ranking"].as_array().unwrap().len()).sum();
        prop_assert_eq!(ranked, pages.outputs.len());
        let windows: BTreeSet<_> =
            top.values(0).iter().map(|v| v["window_start_ms"].as_i64().unwrap()).collect();
        prop_assert_eq!(windows.len(), top.outputs.len());
    }
}
