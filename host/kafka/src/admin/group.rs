//! Who is in a group, and what each member has. Invariant: an answer is of a moment when every
//! partition had its member, or there is none.

use std::time::Duration;

use rdkafka::error::KafkaError;

use super::Admin;
use crate::Error;
use crate::native::group;

/// A member of a group, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The `client.id` of its client.
    pub client_id: String,
    /// The partitions that it was given.
    pub partitions: Vec<(String, u32)>,
}

impl Admin {
    /// The members of a group, which are no members at all when there is no such group; none while
    /// the group rebalances. Asks the group's coordinator once and waits at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Request`] when it can't be had, or what a member was given is none of the consumer
    /// protocol.
    pub fn members(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Option<Vec<GroupMember>>, Error> {
        let described = group::describe(&self.uncommitted, group, timeout).map_err(|code| {
            let what = format!("asking for the members of group {group}");
            self.failed(&what, &KafkaError::AdminOp(code))
        })?;
        let member = |(client_id, partitions)| GroupMember { client_id, partitions };
        Ok(described.map(|members| members.into_iter().map(member).collect()))
    }
}
