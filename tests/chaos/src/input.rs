//! What goes in, as a function of its number: account, partition, time.
//!
//! Invariant: all numbers of an account go to the same partition, and times ascend with numbers but
//! for what comes once more, which is not late, so that what the pipeline makes of an account depends
//! on nothing but the order of its numbers.

use crate::random::mix;

/// The topic that the pipeline reads.
pub const TOPIC: &str = "in";
/// Its partitions, and those of every topic of the pipeline.
pub const PARTITIONS: u32 = 4;
/// How many accounts there are.
pub const ACCOUNTS: u64 = 60;
/// The length of the spans of event time that the pipeline sums up, in ms.
pub const SPAN_MS: i64 = 500;
/// How many residues the pipeline keeps for an account.
pub const RESIDUES: u64 = 7;
/// How far the pipeline expects records to be out of order, in ms: more than the feed has under way,
/// which comes once more where a broker is gone before it has answered.
pub const OUT_OF_ORDERNESS_MS: i64 = 5_000;
/// The time of number 0, in ms since the Unix epoch.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// The account of a number, below [`ACCOUNTS`].
pub fn account(n: u64) -> u64 {
    mix(n) % ACCOUNTS
}

/// The name of an account.
pub fn name(account: u64) -> String {
    format!("a{account:02}")
}

/// The account of this name.
pub fn of_name(name: &str) -> Option<u64> {
    name.strip_prefix('a')?.parse().ok().filter(|account| *account < ACCOUNTS)
}

/// The partition of an account.
pub fn partition(account: u64) -> u32 {
    (account % u64::from(PARTITIONS)) as u32
}

/// The event time of a number: 1 ms after that of the one before it.
pub fn time_ms(n: u64) -> i64 {
    BEGIN_MS + n.cast_signed()
}

/// A time at which every span of the numbers below `total` is over.
pub fn end_ms(total: u64) -> i64 {
    time_ms(total) + 2 * (SPAN_MS + OUT_OF_ORDERNESS_MS)
}

/// The span of a number.
pub fn span(n: u64) -> i64 {
    time_ms(n).div_euclid(SPAN_MS)
}

/// The value of a number's record.
pub fn value(n: u64) -> String {
    format!(r#"{{"account":"{}","n":{n}}}"#, name(account(n)))
}

/// The pipeline, but for where the brokers are. `plugins` is the folder with the plugins; the times
/// are Kafka's timeouts of sessions and transactions.
pub fn pipeline(plugins: &str, session_ms: u64, transaction_ms: u64) -> String {
    format!(
        r#"name = "ledger"

[engine]
partitions = {PARTITIONS}
checkpoint-interval = "100ms"
plugins = ["{plugins}"]

[kafka]
brokers = "127.0.0.1:1"

[kafka.consumer]
"session.timeout.ms" = {session_ms}
"heartbeat.interval.ms" = {heartbeat_ms}

[kafka.producer]
"transaction.timeout.ms" = {transaction_ms}

[source.in]
topic = "{TOPIC}"
start = "earliest"
out-of-orderness = "{OUT_OF_ORDERNESS_MS}ms"

[stage.pass]
plugin = "identity"
from = "source.in"

[stage.ledger]
plugin = "ledger"
from = "stage.pass"
key-by = "account"
config = {{ span-ms = {SPAN_MS}, residues = {RESIDUES} }}

[topic.out]
from = "stage.ledger"
"#,
        heartbeat_ms = (session_ms / 5).max(100),
    )
}
