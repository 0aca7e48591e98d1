//! The checker is itself checked: it is silent about a faithful pipeline, and about no other.

use proptest::prelude::*;

use super::*;

const TOTAL: u64 = 3_000;

/// What a faithful pipeline tells, in one partition: numbers, then spans, then an audit.
fn faithful() -> Vec<String> {
    let mut told = Vec::new();
    let mut folds: BTreeMap<u64, (Fold, BTreeMap<u64, u64>)> = BTreeMap::new();
    for n in 0..TOTAL {
        let account = input::account(n);
        let (fold, residues) = folds.entry(account).or_default();
        fold.add(n);
        let before = residues.insert(n % RESIDUES, n);
        let before = before.map_or("null".to_owned(), |b| b.to_string());
        let name = input::name(account);
        told.push(format!(
            r#"{{"kind":"entry","account":"{name}","n":{n},{},"before":{before}}}"#,
            fields(fold)
        ));
    }
    for ((account, span), fold) in spans(&sent()) {
        let name = input::name(account);
        told.push(format!(
            r#"{{"kind":"span","account":"{name}","span":{span},{}}}"#,
            fields(&fold)
        ));
    }
    for (account, (fold, residues)) in folds {
        let (name, residues) = (input::name(account), residues.into_iter().collect::<Vec<_>>());
        let residues = serde_json::to_string(&residues).unwrap();
        told.push(format!(
            r#"{{"kind":"audit","account":"{name}","audit":0,{},"residues":{residues},"open":[]}}"#,
            fields(&fold)
        ));
    }
    told
}

fn fields(fold: &Fold) -> String {
    let Fold { count, sum, last, hash } = fold;
    format!(r#""count":{count},"sum":{sum},"last":{last},"hash":{hash}"#)
}

fn sent() -> Input {
    let mut input = Input::default();
    for n in 0..TOTAL {
        let partition = input::partition(input::account(n)).cast_signed();
        input.take(partition, Some(input::value(n).as_bytes())).unwrap();
    }
    input
}

fn verdict(told: &[String]) -> Vec<String> {
    let mut check = Check::new(sent());
    for (offset, text) in told.iter().enumerate() {
        check.take(0, offset as i64, Some(text.as_bytes()));
    }
    check.verdict(1)
}

#[test]
fn nothing_is_said_about_a_faithful_pipeline() {
    assert_eq!(verdict(&faithful()), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_that_is_lost_comes_twice_or_moves_is_noticed(
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
    ) {
        let told = faithful();
        let (from, to) = (from.index(told.len()), to.index(told.len()));
        let mut lost = told.clone();
        lost.remove(from);
        prop_assert!(!verdict(&lost).is_empty());
        let mut twice = told.clone();
        twice.insert(to.max(from), told[from].clone());
        prop_assert!(!verdict(&twice).is_empty());
    }

    #[test]
    fn any_other_digit_is_noticed(at in any::<proptest::sample::Index>(), pick in any::<usize>()) {
        let mut told = faithful();
        let at = at.index(told.len());
        let digits: Vec<usize> = told[at].match_indices(|c: char| c.is_ascii_digit())
            .map(|(i, _)| i).collect();
        let digit = digits[pick % digits.len()];
        let other = if &told[at][digit..=digit] == "3" { "4" } else { "3" };
        told[at].replace_range(digit..=digit, other);
        prop_assert!(!verdict(&told).is_empty());
    }
}

#[test]
fn an_input_that_is_not_what_was_sent_is_refused() {
    let (mut input, n) = (sent(), 7);
    assert_eq!(input.resent(TOTAL), Ok(0));
    assert_eq!(input.resent(TOTAL + 1), Err(Wrong::Lost(vec![TOTAL])));
    let partition = input::partition(input::account(n)).cast_signed();
    assert!(input.take(partition + 1, Some(input::value(n).as_bytes())).is_err());
    assert!(input.take(partition, Some(b"{\"n\":7}")).is_err());
    input.take(partition, Some(input::value(n).as_bytes())).unwrap();
    assert_eq!(input.resent(TOTAL), Ok(1));
}

#[test]
fn two_numbers_of_an_account_in_the_wrong_order_are_noticed() {
    let mut told = faithful();
    let a = input::account(0);
    let of_a: Vec<usize> = (0..TOTAL as usize).filter(|n| input::account(*n as u64) == a).collect();
    told.swap(of_a[4], of_a[5]);
    assert!(!verdict(&told).is_empty());
}

#[test]
fn an_account_that_changes_its_partition_is_noticed() {
    let mut check = Check::new(sent());
    for (offset, text) in faithful().iter().enumerate() {
        check.take(i32::from(offset > 2_000), offset as i64, Some(text.as_bytes()));
    }
    assert!(!check.verdict(1).is_empty());
}
