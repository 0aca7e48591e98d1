//! The model: what must come out of what went in, and how it differs from what came out.
//!
//! Invariant: [`Check::verdict`] is empty only if every number up to the total came exactly once, in
//! order within its account, with the fold that the model has at that place; every span exactly once;
//! and every audit told exactly the model's state.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::input::{self, ACCOUNTS, RESIDUES};

/// How many differences are told.
const TOLD: usize = 12;

/// The fold of numbers that the pipeline keeps for an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Fold {
    /// How many there were.
    pub count: u64,
    /// Their sum, modulo 2^64.
    pub sum: u64,
    /// The last one.
    pub last: u64,
    /// Of all in their order.
    pub hash: u64,
}

impl Fold {
    /// Adds a number.
    pub fn add(&mut self, n: u64) {
        let hash = (self.hash.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
        *self = Self { count: self.count + 1, sum: self.sum.wrapping_add(n), last: n, hash };
    }
}

/// What the pipeline tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Told {
    Entry {
        account: String,
        n: u64,
        #[serde(flatten)]
        fold: Fold,
        before: Option<u64>,
    },
    Span {
        account: String,
        span: i64,
        #[serde(flatten)]
        fold: Fold,
    },
    Audit {
        account: String,
        audit: u64,
        #[serde(flatten)]
        fold: Fold,
        residues: Vec<(u64, u64)>,
        open: Vec<(i64, Fold)>,
    },
}

/// What is known of an account.
#[derive(Debug, Clone, Default)]
struct Account {
    /// The partition of the output that it is in.
    partition: Option<i32>,
    /// The number that must come next.
    next: u64,
    fold: Fold,
    residues: BTreeMap<u64, u64>,
    spans: BTreeMap<i64, Vec<Fold>>,
    last_span: Option<i64>,
}

/// Compares what comes out with the model, record by record.
#[derive(Debug)]
pub struct Check {
    accounts: Vec<Account>,
    /// How often each number came.
    times: Vec<u32>,
    entries: u64,
    spans: u64,
    /// For each audit the accounts that answered.
    audits: BTreeMap<u64, Vec<u64>>,
    differences: Differences,
}

#[derive(Debug, Default)]
struct Differences {
    first: Vec<String>,
    count: usize,
}

impl Differences {
    fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(text);
        }
    }
}

impl Default for Check {
    fn default() -> Self {
        let account = |account| Account { next: first_of(account, 0), ..Account::default() };
        Self {
            accounts: (0..ACCOUNTS).map(account).collect(),
            times: Vec::new(),
            entries: 0,
            spans: 0,
            audits: BTreeMap::new(),
            differences: Differences::default(),
        }
    }
}

/// The first number of an account from `n` on.
fn first_of(account: u64, n: u64) -> u64 {
    (n..).find(|n| input::account(*n) == account).expect("an account has numbers without end")
}

impl Check {
    /// Takes a record of the output; those of a partition come in their order.
    pub fn take(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        let at = format!("out/{partition} offset {offset}");
        let told: Told = match value.map(serde_json::from_slice) {
            Some(Ok(told)) => told,
            other => return self.differences.add(format!("{at}: not understood: {other:?}")),
        };
        let name = match &told {
            Told::Entry { account, .. }
            | Told::Span { account, .. }
            | Told::Audit { account, .. } => account,
        };
        let Some(number) = input::of_name(name) else {
            return self.differences.add(format!("{at}: there is no account {name}"));
        };
        let account = &mut self.accounts[number as usize];
        let home = *account.partition.get_or_insert(partition);
        if home != partition {
            self.differences.add(format!("{at}: account {name} was in partition {home} before"));
        }
        match told {
            Told::Entry { n, fold, before, .. } => self.entry(&at, number, n, fold, before),
            Told::Span { span, fold, .. } => self.span(&at, number, span, fold),
            Told::Audit { audit, fold, residues, open, .. } => {
                self.audits.entry(audit).or_default().push(number);
                let residues: BTreeMap<u64, u64> = residues.into_iter().collect();
                let account = &self.accounts[number as usize];
                if fold != account.fold || residues != account.residues || !open.is_empty() {
                    let model = (account.fold, &account.residues);
                    self.differences.add(format!(
                        "{at}: audit {audit} of account {name} tells {fold:?}, residues \
                         {residues:?}, open spans {open:?}; the model has {model:?} and none open"
                    ));
                }
            }
        }
    }

    fn entry(&mut self, at: &str, number: u64, n: u64, fold: Fold, before: Option<u64>) {
        let name = input::name(number);
        if input::account(n) != number {
            self.differences.add(format!("{at}: number {n} is not one of account {name}"));
            return;
        }
        if self.times.len() <= n as usize {
            self.times.resize(n as usize + 1, 0);
        }
        self.times[n as usize] += 1;
        if self.times[n as usize] == 1 {
            self.entries += 1;
        }
        let account = &mut self.accounts[number as usize];
        if n != account.next {
            let expected = account.next;
            self.differences.add(format!(
                "{at}: account {name}: found number {n}, expected {expected} (found so far {} \
                 times)",
                self.times[n as usize]
            ));
            if n < account.next {
                return;
            }
        }
        let known = account.residues.insert(n % RESIDUES, n);
        let mut model = account.fold;
        model.add(n);
        if fold != model || before != known {
            self.differences.add(format!(
                "{at}: account {name} number {n}: the state is {fold:?} and {before:?} before it, \
                 the fold is {model:?} and {known:?}"
            ));
        }
        // Further on as the pipeline does, so that one fault is not told for every record after it.
        let account = &mut self.accounts[number as usize];
        account.fold = fold;
        account.next = first_of(number, n + 1);
    }

    fn span(&mut self, at: &str, number: u64, span: i64, fold: Fold) {
        let account = &mut self.accounts[number as usize];
        if account.last_span.is_some_and(|last| last >= span) {
            let (name, last) = (input::name(number), account.last_span);
            self.differences.add(format!("{at}: account {name}: span {span} after {last:?}"));
        }
        account.last_span = account.last_span.max(Some(span));
        let folds = account.spans.entry(span).or_default();
        folds.push(fold);
        if folds.len() == 1 {
            self.spans += 1;
        }
    }

    /// How many different numbers came.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How many different spans came.
    pub fn spans(&self) -> u64 {
        self.spans
    }

    /// How many accounts have answered an audit.
    pub fn audited(&self, audit: u64) -> usize {
        self.audits.get(&audit).map_or(0, Vec::len)
    }

    /// The differences so far: how many, and the first few.
    pub fn differences(&self) -> (usize, &[String]) {
        (self.differences.count, &self.differences.first)
    }

    /// What is wrong with everything that came, when the numbers below `total` went in and so many
    /// audits were asked for. Empty when nothing is.
    pub fn verdict(mut self, total: u64, audits: u64) -> Vec<String> {
        self.compare_numbers(total);
        self.compare_spans(total);
        for audit in 0..audits {
            let mut answered = self.audits.remove(&audit).unwrap_or_default();
            answered.sort_unstable();
            if !answered.iter().copied().eq(0..ACCOUNTS) {
                self.differences.add(format!(
                    "audit {audit}: {} answers, expected one from each of {ACCOUNTS} accounts",
                    answered.len()
                ));
            }
        }
        let Differences { mut first, count } = self.differences;
        if count > first.len() {
            first.push(format!("and {} more", count - first.len()));
        }
        first
    }

    fn compare_numbers(&mut self, total: u64) {
        self.times.resize(self.times.len().max(total as usize), 0);
        let (sent, more) = self.times.split_at(total as usize);
        let those = |wanted: &dyn Fn(u32) -> bool| -> Vec<usize> {
            sent.iter().enumerate().filter(|(_, t)| wanted(**t)).map(|(n, _)| n).collect()
        };
        let (lost, twice) = (those(&|times| times == 0), those(&|times| times > 1));
        let unknown = more.iter().filter(|times| **times > 0).count();
        for (what, numbers) in [("never came", lost), ("came more than once", twice)] {
            if !numbers.is_empty() {
                let first = &numbers[..numbers.len().min(10)];
                let text = format!("{} of {total} numbers {what}: {first:?}...", numbers.len());
                // What matters most comes first.
                self.differences.first.insert(0, text);
                self.differences.count += 1;
            }
        }
        if unknown > 0 {
            self.differences.add(format!("{unknown} numbers came that were never sent"));
        }
    }

    fn compare_spans(&mut self, total: u64) {
        let model = spans(total);
        for (number, account) in self.accounts.iter().enumerate() {
            let name = input::name(number as u64);
            for (span, folds) in &account.spans {
                let expected = model.get(&(number as u64, *span));
                if expected.map(std::slice::from_ref) != Some(folds) {
                    self.differences.add(format!(
                        "span {span} of account {name}: found {folds:?}, expected once {expected:?}"
                    ));
                }
            }
        }
        let came = |(account, span): &(u64, i64)| {
            self.accounts[*account as usize].spans.contains_key(span)
        };
        let missing: Vec<_> = model.keys().filter(|key| !came(key)).collect();
        if let Some((account, span)) = missing.first() {
            self.differences.add(format!(
                "{} spans never came, the first is span {span} of account {}",
                missing.len(),
                input::name(*account)
            ));
        }
    }
}

/// The fold of each account's span when the numbers below `total` went in.
pub fn spans(total: u64) -> BTreeMap<(u64, i64), Fold> {
    let mut spans: BTreeMap<(u64, i64), Fold> = BTreeMap::new();
    for n in 0..total {
        spans.entry((input::account(n), input::span(n))).or_default().add(n);
    }
    spans
}

#[cfg(test)]
mod tests;
