//! Group metadata. Invariant: a copy, which stays as it was when the group moves on.

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::context::Context;
use crate::native::text;

/// What a consumer knew of its membership when this was taken.
#[derive(Debug)]
pub(crate) struct Raw(*mut ffi::rd_kafka_consumer_group_metadata_t);

// SAFETY: an immutable object of its own, not tied to a client or a thread.
unsafe impl Send for Raw {}
// SAFETY: as above; all access is by reading.
unsafe impl Sync for Raw {}

impl Raw {
    /// Takes the metadata; none when the consumer has no group.
    pub(crate) fn of(consumer: &BaseConsumer<Context>) -> Option<Self> {
        // SAFETY: the client lives as long as the consumer; what comes back is ours.
        let pointer =
            unsafe { ffi::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        (!pointer.is_null()).then_some(Self(pointer))
    }

    pub(crate) fn generation(&self) -> i32 {
        // SAFETY: the pointer is not null and ours.
        unsafe { ffi::rd_kafka_consumer_group_metadata_generation_id(self.0) }
    }

    pub(crate) fn member_id(&self) -> String {
        // SAFETY: the pointer is not null and ours; the string lives as long as it.
        text(unsafe { ffi::rd_kafka_consumer_group_metadata_member_id(self.0) })
    }

    pub(super) fn pointer(&self) -> *const ffi::rd_kafka_consumer_group_metadata_t {
        self.0
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: ours, and not used after this.
        unsafe { ffi::rd_kafka_consumer_group_metadata_destroy(self.0) }
    }
}
