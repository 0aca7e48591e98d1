//! What is known of a group: a consumer's own membership, and all members as the group's coordinator
//! describes them; and offsets that a member commits. Invariant: what is known are copies, which stay
//! as they were when the group moves on.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::context::Context;
use crate::native::text;

/// The most that librdkafka takes for a request's timeout, in ms.
const MOST_TIMEOUT_MS: i32 = 3_600_000;

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

/// Offsets that a member of a group commits, while others go on with their work.
pub(crate) struct Commit {
    queue: *mut ffi::rd_kafka_queue_t,
    /// The member's client; kept so that it outlives the queue.
    _member: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues may be used from any one thread at a time.
unsafe impl Send for Commit {}

impl Commit {
    /// Asks for it.
    pub(crate) fn begin(
        member: &Arc<BaseConsumer<Context>>,
        offsets: &TopicPartitionList,
    ) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the client lives as long as the consumer and the list as long as the call, which
        // copies it; the queue is ours. Without a callback the answer is an event.
        let (queue, code) = unsafe {
            let client = member.client().native_ptr();
            let queue = ffi::rd_kafka_queue_new(client);
            let (callback, opaque) = (None, ptr::null_mut());
            let list = offsets.ptr();
            (queue, ffi::rd_kafka_commit_queue(client, list, queue, callback, opaque))
        };
        let commit = Self { queue, _member: Arc::clone(member) };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(commit),
            code => Err(code.into()),
        }
    }

    /// What came of it; none as long as that is not known.
    pub(crate) fn poll(&self) -> Option<Result<(), RDKafkaErrorCode>> {
        // SAFETY: the queue is ours; an event is ours and is destroyed after the last look at it.
        let code = unsafe {
            let event = ffi::rd_kafka_queue_poll(self.queue, 0);
            if event.is_null() {
                return None;
            }
            let code = ffi::rd_kafka_event_error(event);
            ffi::rd_kafka_event_destroy(event);
            code
        };
        Some(match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(code.into()),
        })
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        // SAFETY: ours, and it goes before its client, which is a field. An answer that comes later
        // goes with it.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

/// A member of a group: its client's name, and the partitions that it was given.
pub(crate) type Member = (String, Vec<(String, u32)>);

/// The members of a group, of which `consumer` need not be one; none while the group rebalances. A
/// group that does not exist has no members.
pub(crate) fn describe(
    consumer: &BaseConsumer<Context>,
    group: &str,
    timeout: Duration,
) -> Result<Option<Vec<Member>>, RDKafkaErrorCode> {
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let ms =
        i32::try_from(timeout.as_millis()).map_or(MOST_TIMEOUT_MS, |ms| ms.min(MOST_TIMEOUT_MS));
    // SAFETY: the client lives as long as the consumer; the name ends with a zero and is copied by
    // the call, as the options are. Queue, options and event are ours, and each is destroyed after its
    // last use; an answer that comes later goes with the queue.
    unsafe {
        let client = consumer.client().native_ptr();
        let operation = ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let options = ffi::rd_kafka_AdminOptions_new(client, operation);
        let mut why = [0; 128];
        // It is in the range that is allowed.
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, ms, why.as_mut_ptr(), why.len());
        let queue = ffi::rd_kafka_queue_new(client);
        let mut names = [name.as_ptr()];
        ffi::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), 1, options, queue);
        ffi::rd_kafka_AdminOptions_destroy(options);
        let event = ffi::rd_kafka_queue_poll(queue, ms);
        let answer = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let answer = members(event);
            ffi::rd_kafka_event_destroy(event);
            answer
        };
        ffi::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// Reads an answer about one group.
///
/// # Safety
/// The event is a live one.
unsafe fn members(
    event: *mut ffi::rd_kafka_event_t,
) -> Result<Option<Vec<Member>>, RDKafkaErrorCode> {
    // SAFETY: everything that is reached from the event belongs to it and lives as long; indexes are
    // below the counts that are told, and pointers are checked wherever they may be null.
    unsafe {
        let error: RDKafkaErrorCode = ffi::rd_kafka_event_error(event).into();
        if error != RDKafkaErrorCode::NoError {
            return Err(error);
        }
        let result = ffi::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let mut count = 0;
        let groups = ffi::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count != 1 {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let group = *groups;
        let error = ffi::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            return match ffi::rd_kafka_error_code(error).into() {
                RDKafkaErrorCode::GroupIdNotFound => Ok(Some(Vec::new())),
                code => Err(code),
            };
        }
        use ffi::rd_kafka_consumer_group_state_t as State;
        match ffi::rd_kafka_ConsumerGroupDescription_state(group) {
            State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => {}
            State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY
            | State::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => return Ok(Some(Vec::new())),
            _ => return Ok(None),
        }
        let member = |i| {
            let member = ffi::rd_kafka_ConsumerGroupDescription_member(group, i);
            let client = text(ffi::rd_kafka_MemberDescription_client_id(member));
            let assignment = ffi::rd_kafka_MemberDescription_assignment(member);
            let given = if assignment.is_null() {
                Vec::new()
            } else {
                partitions(ffi::rd_kafka_MemberAssignment_partitions(assignment))
            };
            (client, given)
        };
        let count = ffi::rd_kafka_ConsumerGroupDescription_member_count(group);
        Ok(Some((0..count).map(member).collect()))
    }
}

/// The partitions of a list, which may be null. Those below 0 are none.
///
/// # Safety
/// A list that is not null is a live one.
unsafe fn partitions(list: *const ffi::rd_kafka_topic_partition_list_t) -> Vec<(String, u32)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a list has as many elements as it says, and each the name of its topic.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let element = |i| {
            let element = &*(*list).elems.add(i);
            Some((text(element.topic), u32::try_from(element.partition).ok()?))
        };
        (0..count).filter_map(element).collect()
    }
}
