//! The queue of one partition, read in runs of messages. Invariant: every message that was taken is
//! destroyed exactly once.

use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::{ptr, slice};

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use wasmill_abi::Headers;

use crate::context::Context;
use crate::native::text;
use crate::wake::Waker;

/// How many messages are taken at a time.
const RUN: usize = 512;

/// A partition's own queue.
pub(crate) struct Queue {
    queue: *mut ffi::rd_kafka_queue_t,
    /// Messages taken and not yet handed out are `run[at..end]`.
    run: Box<[*mut ffi::rd_kafka_message_t; RUN]>,
    at: usize,
    end: usize,
    topic: CString,
    partition: i32,
    /// What the callback of the queue points to.
    _waker: Box<Waker>,
    /// The client that the queue belongs to; kept so that it outlives the queue.
    consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues and messages may be used from any one thread at a time.
unsafe impl Send for Queue {}

/// A message that is looked at; it is freed when the next one is taken.
pub(crate) struct Message<'a>(&'a ffi::rd_kafka_message_t);

/// What a message that is no record says.
pub(crate) struct Notice {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
    pub(crate) offset: i64,
}

unsafe extern "C" fn wake(_: *mut ffi::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: the pointer is `Queue::_waker`, which lives until the callback is switched off.
    unsafe { &*waker.cast::<Waker>() }.wake();
}

impl Queue {
    /// Splits the queue of a partition off, which must not be assigned yet; none when the name can't
    /// be one of a topic.
    pub(crate) fn split(
        consumer: &Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: i32,
        waker: &Waker,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let waker = Box::new(waker.clone());
        // SAFETY: the client is alive, the name ends with a zero; the queue is ours. The callback's
        // pointer is to memory of a box, which does not move and outlives the queue.
        let queue = unsafe {
            let client = consumer.client().native_ptr();
            let queue = ffi::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            if queue.is_null() {
                return None;
            }
            ffi::rd_kafka_queue_forward(queue, ptr::null_mut());
            let pointer = ptr::from_ref::<Waker>(&waker).cast_mut().cast();
            ffi::rd_kafka_queue_cb_event_enable(queue, Some(wake), pointer);
            queue
        };
        Some(Self {
            queue,
            run: Box::new([ptr::null_mut(); RUN]),
            at: 0,
            end: 0,
            topic,
            partition,
            _waker: waker,
            consumer: Arc::clone(consumer),
        })
    }

    /// Hands messages to `each` until it says that it has not taken one, which then comes again, or
    /// until `most` were taken or none is there. Returns how many were taken.
    #[inline]
    pub(crate) fn read(&mut self, most: usize, mut each: impl FnMut(Message<'_>) -> bool) -> usize {
        let mut taken = 0;
        while taken < most {
            if self.at == self.end && !self.refill(most - taken) {
                break;
            }
            let message = self.run[self.at];
            // SAFETY: messages in `at..end` are ours and not destroyed yet.
            if !each(Message(unsafe { &*message })) {
                break;
            }
            // SAFETY: as above; `at` moves on, so it is not touched again.
            unsafe { ffi::rd_kafka_message_destroy(message) };
            self.at += 1;
            taken += 1;
        }
        taken
    }

    /// Whether messages were taken and not handed out.
    pub(crate) fn has_more(&self) -> bool {
        self.at < self.end
    }

    fn refill(&mut self, most: usize) -> bool {
        // SAFETY: the queue is ours and `run` has room for as many as are asked for.
        let count = unsafe {
            ffi::rd_kafka_consume_batch_queue(self.queue, 0, self.run.as_mut_ptr(), most.min(RUN))
        };
        self.at = 0;
        self.end = usize::try_from(count).unwrap_or(0);
        self.end > 0
    }

    /// The first offset and the one after the last that may be read, as the last fetch told.
    pub(crate) fn watermarks(&self) -> Option<(i64, i64)> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive; both results are written before they are read.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                self.topic.as_ptr(),
                self.partition,
                &raw mut low,
                &raw mut high,
            )
        };
        (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0)
            .then_some((low, high))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: messages in `at..end` are ours; the callback is off before its waker goes, and the
        // queue goes before its client, which is a field.
        unsafe {
            for message in &self.run[self.at..self.end] {
                ffi::rd_kafka_message_destroy(*message);
            }
            ffi::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(self.queue);
        }
    }
}

impl Message<'_> {
    /// What it says, when it is no record.
    #[inline]
    pub(crate) fn notice(&self) -> Option<Notice> {
        if self.0.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let text = match bytes(self.0.payload, self.0.len) {
            Some(why) => String::from_utf8_lossy(why).into_owned(),
            // SAFETY: a static string.
            None => text(unsafe { ffi::rd_kafka_err2str(self.0.err) }),
        };
        Some(Notice { code: self.0.err.into(), text, offset: self.0.offset })
    }

    #[inline]
    pub(crate) fn offset(&self) -> i64 {
        self.0.offset
    }

    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    #[inline]
    pub(crate) fn value(&self) -> Option<&[u8]> {
        bytes(self.0.payload, self.0.len)
    }

    /// The timestamp in ms since the Unix epoch, and whether the broker gave it; -1 for none.
    #[inline]
    pub(crate) fn timestamp(&self) -> (i64, bool) {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let time = unsafe { ffi::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        let appended = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
        (time, kind == appended)
    }

    /// Appends the headers as one row.
    pub(crate) fn headers(&self, to: &mut Headers) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive and keeps its headers; every name ends with a zero, every
        // value has the length that comes with it.
        unsafe {
            let code = ffi::rd_kafka_message_headers(self.0, &raw mut headers);
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                for index in 0.. {
                    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                    let code = ffi::rd_kafka_header_get_all(
                        headers,
                        index,
                        &raw mut name,
                        &raw mut value,
                        &raw mut size,
                    );
                    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                        break;
                    }
                    to.add(&text(name), bytes(value, size));
                }
            }
        }
        to.close_row();
    }
}

/// The bytes at a pointer of a message; none for null.
#[inline]
pub(super) fn bytes<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: librdkafka gives the length of what it points to; callers bind the result to the
    // message.
    Some(unsafe { slice::from_raw_parts(pointer.cast(), len) })
}
