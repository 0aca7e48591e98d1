//! The producer's calls. Invariant: delivery reports are served by the thread that calls
//! [`Handle::poll`], [`Handle::flush`] and the transaction's calls, never by another.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaResult;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr, RDKafkaType};

use crate::context::Context;
use crate::native::group::Raw;
use crate::native::{Failure, text};

/// A producing client.
pub(crate) struct Handle {
    topics: Vec<*mut ffi::rd_kafka_topic_t>,
    client: Client<Context>,
}

// SAFETY: librdkafka's clients and topics may be used from any thread.
unsafe impl Send for Handle {}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) topic: usize,
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// In ms since the Unix epoch; 0 for now.
    pub(crate) timestamp: i64,
    /// What its delivery report carries.
    pub(crate) label: Label,
}

/// What a delivery report carries: the lot that a record belongs to, of which two are told apart, and
/// its ticket, 0 when nobody asks for its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

impl Label {
    pub(crate) fn new(lot: usize, ticket: usize) -> Self {
        Self(ticket << 1 | lot & 1)
    }

    pub(crate) fn lot(self) -> usize {
        self.0 & 1
    }

    pub(crate) fn ticket(self) -> usize {
        self.0 >> 1
    }
}

/// Headers on their way into a record.
pub(crate) struct HeaderList(*mut ffi::rd_kafka_headers_t);

unsafe extern "C" fn delivered(
    _: *mut ffi::rd_kafka_t,
    message: *const ffi::rd_kafka_message_t,
    context: *mut c_void,
) {
    // SAFETY: a report's message is alive during the call; the context is that of the client.
    let (message, context) = unsafe { (&*message, &*context.cast::<Context>()) };
    let label = Label(message._private.addr());
    let failed = message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    if failed || message.offset < 0 {
        // SAFETY: a report's message has its topic; the other two are static or the message's.
        let (topic, why) = unsafe {
            (text(ffi::rd_kafka_topic_name(message.rkt)), text(ffi::rd_kafka_err2str(message.err)))
        };
        if failed {
            context.delivery_failed(&topic, message.partition, message.err.into(), &why);
        } else {
            context.delivery_inferred(&topic, message.partition);
        }
    } else if label.ticket() != 0 {
        context.delivered(label.ticket(), message.offset);
    }
    context.reported(label.lot());
}

unsafe extern "C" fn log(
    client: *const ffi::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the opaque of a client is its context, where one is set.
    let context = unsafe { ffi::rd_kafka_opaque(client).cast::<Context>().as_ref() };
    if let Some(context) = context {
        let level = match level {
            ..=3 => RDKafkaLogLevel::Error,
            4 => RDKafkaLogLevel::Warning,
            5 => RDKafkaLogLevel::Notice,
            6 => RDKafkaLogLevel::Info,
            _ => RDKafkaLogLevel::Debug,
        };
        context.log(level, &text(facility), &text(line));
    }
}

unsafe extern "C" fn failed(
    _: *mut ffi::rd_kafka_t,
    _: c_int,
    reason: *const c_char,
    context: *mut c_void,
) {
    // SAFETY: the context is that of the client.
    unsafe { &*context.cast::<Context>() }.note(&text(reason));
}

unsafe extern "C" fn statistics(
    _: *mut ffi::rd_kafka_t,
    json: *mut c_char,
    len: usize,
    context: *mut c_void,
) -> c_int {
    // SAFETY: `json` has `len` bytes during the call; the context is that of the client.
    let (json, context) =
        unsafe { (slice::from_raw_parts(json.cast::<u8>(), len), &*context.cast::<Context>()) };
    context.stats_raw(json);
    0 // librdkafka frees the text
}

impl Handle {
    /// Makes the client; it connects when it is used.
    pub(crate) fn new(config: &ClientConfig, context: Context) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        // SAFETY: the configuration is alive, and the callbacks have the types that it expects.
        unsafe {
            ffi::rd_kafka_conf_set_dr_msg_cb(native.ptr(), Some(delivered));
            ffi::rd_kafka_conf_set_log_cb(native.ptr(), Some(log));
            ffi::rd_kafka_conf_set_error_cb(native.ptr(), Some(failed));
            ffi::rd_kafka_conf_set_stats_cb(native.ptr(), Some(statistics));
        }
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, context)?;
        Ok(Self { client, topics: Vec::new() })
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.client.context()
    }

    fn pointer(&self) -> *mut ffi::rd_kafka_t {
        self.client.native_ptr()
    }

    /// Makes a topic known, to be named by the number that comes back.
    pub(crate) fn add_topic(&mut self, name: &str) -> Result<usize, String> {
        let name = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the client is alive and the name ends with a zero; the topic is ours.
        let topic =
            unsafe { ffi::rd_kafka_topic_new(self.pointer(), name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            // SAFETY: both are about this thread's last call, and static.
            return Err(text(unsafe { ffi::rd_kafka_err2str(ffi::rd_kafka_last_error()) }));
        }
        self.topics.push(topic);
        Ok(self.topics.len() - 1)
    }

    /// Puts a copy of a record into the queue; takes the headers only when that works.
    pub(crate) fn produce(
        &self,
        parts: &Parts<'_>,
        headers: &mut Option<HeaderList>,
    ) -> Result<(), RDKafkaErrorCode> {
        use ffi::rd_kafka_vtype_t as v;
        let (value, value_len) = pointer(parts.value);
        let (key, key_len) = pointer(parts.key);
        // SAFETY: each argument has the type that its tag asks for; key and value are copied; the
        // topic is one of ours. The headers are librdkafka's once the call has worked.
        let code = unsafe {
            let topic = v::RD_KAFKA_VTYPE_RKT;
            ffi::rd_kafka_producev(
                self.pointer(),
                topic,
                self.topics[parts.topic],
                v::RD_KAFKA_VTYPE_PARTITION,
                parts.partition,
                v::RD_KAFKA_VTYPE_MSGFLAGS,
                ffi::RD_KAFKA_MSG_F_COPY,
                v::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                v::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                v::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(parts.label.0),
                v::RD_KAFKA_VTYPE_TIMESTAMP,
                parts.timestamp,
                v::RD_KAFKA_VTYPE_HEADERS,
                headers.as_ref().map_or(ptr::null_mut(), |h| h.0),
                v::RD_KAFKA_VTYPE_END,
            )
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        std::mem::forget(headers.take());
        Ok(())
    }

    /// Serves delivery reports and other events; waits for the first at most `timeout`.
    pub(crate) fn poll(&self, timeout: Duration) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { ffi::rd_kafka_poll(self.pointer(), ms(timeout)) }).unwrap_or(0)
    }

    /// Sends what is queued without lingering and serves the reports; says whether all are in.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        // SAFETY: the client is alive.
        let code = unsafe { ffi::rd_kafka_flush(self.pointer(), ms(timeout)) };
        code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// The records and events that are not done with.
    pub(crate) fn outstanding(&self) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { ffi::rd_kafka_outq_len(self.pointer()) }).unwrap_or(0)
    }

    /// Asks a broker for the leaders of all topics that were added, and waits for the answer at most
    /// so long.
    pub(crate) fn ask_for_leaders(&self, timeout: Duration) -> Result<(), RDKafkaErrorCode> {
        let mut metadata: *const ffi::rd_kafka_metadata = ptr::null();
        // SAFETY: the client is alive; what comes back is ours to destroy, where anything does.
        let code = unsafe {
            let (local, one) = (0, ptr::null_mut());
            let code =
                ffi::rd_kafka_metadata(self.pointer(), local, one, &mut metadata, ms(timeout));
            if !metadata.is_null() {
                ffi::rd_kafka_metadata_destroy(metadata);
            }
            code
        };
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
    }

    pub(crate) fn init_transactions(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: the client is alive; so in the four calls below.
        Failure::check(unsafe { ffi::rd_kafka_init_transactions(self.pointer(), ms(timeout)) })
    }

    pub(crate) fn begin_transaction(&self) -> Result<(), Failure> {
        // SAFETY: see above.
        Failure::check(unsafe { ffi::rd_kafka_begin_transaction(self.pointer()) })
    }

    pub(crate) fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &Raw,
        timeout: Duration,
    ) -> Result<(), Failure> {
        // SAFETY: see above; list and metadata are alive during the call, which copies them.
        Failure::check(unsafe {
            ffi::rd_kafka_send_offsets_to_transaction(
                self.pointer(),
                offsets.ptr(),
                group.pointer(),
                ms(timeout),
            )
        })
    }

    pub(crate) fn commit_transaction(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: see above.
        Failure::check(unsafe { ffi::rd_kafka_commit_transaction(self.pointer(), ms(timeout)) })
    }

    pub(crate) fn abort_transaction(&self, timeout: Duration) -> Result<(), Failure> {
        // SAFETY: see above.
        Failure::check(unsafe { ffi::rd_kafka_abort_transaction(self.pointer(), ms(timeout)) })
    }

    /// The error after which the client is of no use any more.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        let mut buffer: [c_char; 512] = [0; 512];
        // SAFETY: the client is alive and the buffer has the size that is said.
        let code =
            unsafe { ffi::rd_kafka_fatal_error(self.pointer(), buffer.as_mut_ptr(), buffer.len()) };
        (code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| (code.into(), text(buffer.as_ptr())))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the client is alive, it goes after this; the topics are ours.
        unsafe {
            let all = ffi::RD_KAFKA_PURGE_F_QUEUE | ffi::RD_KAFKA_PURGE_F_INFLIGHT;
            ffi::rd_kafka_purge(self.pointer(), all);
            ffi::rd_kafka_flush(self.pointer(), 100);
            for topic in &self.topics {
                ffi::rd_kafka_topic_destroy(*topic);
            }
        }
    }
}

impl HeaderList {
    pub(crate) fn new() -> Self {
        // SAFETY: what comes back is ours.
        Self(unsafe { ffi::rd_kafka_headers_new(8) })
    }

    pub(crate) fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (value, len) = pointer(value);
        // SAFETY: the list is ours; name and value are copied, of the lengths that are said.
        unsafe {
            ffi::rd_kafka_header_add(
                self.0,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value,
                len.cast_signed(),
            );
        }
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        // SAFETY: ours; a list that librdkafka has taken is forgotten, not dropped.
        unsafe { ffi::rd_kafka_headers_destroy(self.0) }
    }
}

fn pointer(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |b| (b.as_ptr().cast_mut().cast(), b.len()))
}

fn ms(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}
