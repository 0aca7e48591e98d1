//! The only unsafe code: what librdkafka offers and `rdkafka` has no safe or no fast way to.
//!
//! Invariant: a pointer of librdkafka lives in exactly one owner here, which frees it, and which
//! keeps alive the client that it belongs to.
#![allow(unsafe_code)]

pub(crate) mod group;
pub(crate) mod producer;
pub(crate) mod queue;

use std::ffi::{CStr, c_char};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::types::{RDKafkaConfRes, RDKafkaErrorCode};

/// Whether librdkafka refused a setting because it does not know it.
pub(crate) fn is_unknown(code: RDKafkaConfRes) -> bool {
    code == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN
}

/// The names of all settings that librdkafka has.
pub(crate) fn known_settings() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: both configurations are made and destroyed here; a dump is an array of `count`
    // strings, names and values in turn, that is read before it is freed.
    unsafe {
        let conf = ffi::rd_kafka_conf_new();
        let mut count = 0;
        let dump = ffi::rd_kafka_conf_dump(conf, &raw mut count);
        names.extend((0..count).step_by(2).map(|i| text(*dump.add(i))));
        ffi::rd_kafka_conf_dump_free(dump, count);
        ffi::rd_kafka_conf_destroy(conf);
        let conf = ffi::rd_kafka_topic_conf_new();
        let dump = ffi::rd_kafka_topic_conf_dump(conf, &raw mut count);
        names.extend((0..count).step_by(2).map(|i| text(*dump.add(i))));
        ffi::rd_kafka_conf_dump_free(dump, count);
        ffi::rd_kafka_topic_conf_destroy(conf);
    }
    names
}

/// The metadata of each element of a list. Others may have committed what is not UTF-8.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<String> {
    let lossy = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"")).into_owned();
    // SAFETY: a list has as many elements as it says, and each its metadata's length.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        (0..count)
            .map(|i| &*list.elems.add(i))
            .map(|element| lossy(queue::bytes(element.metadata, element.metadata_size)))
            .collect()
    }
}

/// A failure of a call that may concern a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
    pub(crate) fatal: bool,
    pub(crate) retriable: bool,
    pub(crate) abort: bool,
}

impl Failure {
    /// Takes over what a call has returned; null is success.
    fn check(error: *mut ffi::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: the error is not null and ours, and is destroyed after the last look at it.
        unsafe {
            let failure = Self {
                code: ffi::rd_kafka_error_code(error).into(),
                text: format!(
                    "{} ({})",
                    text(ffi::rd_kafka_error_string(error)),
                    text(ffi::rd_kafka_error_name(error))
                ),
                fatal: ffi::rd_kafka_error_is_fatal(error) != 0,
                retriable: ffi::rd_kafka_error_is_retriable(error) != 0,
                abort: ffi::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            ffi::rd_kafka_error_destroy(error);
            Err(failure)
        }
    }
}

/// The text of a C string that is null or ends with a zero.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings end with a zero and live at least as long as this call.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
