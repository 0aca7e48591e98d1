//! Who is in a group, and what each member has. Invariant: an answer is of a moment when every
//! partition had its member, or there is none.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::Admin;
use crate::Error;

/// A group where every member knows what it has.
const STABLE: &str = "Stable";

/// A member of a group, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The `client.id` of its client.
    pub client_id: String,
    /// The partitions that it was given.
    pub partitions: Vec<(String, u32)>,
}

impl Admin {
    /// The members of a group of the classic protocol; none while the group rebalances, or when there
    /// is no such group. Asks once and waits at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Request`] when it can't be had, or what a member was given can't be read.
    pub fn members(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Option<Vec<GroupMember>>, Error> {
        let what = || format!("asking for the members of group {group}");
        let groups = self.uncommitted.fetch_group_list(Some(group), timeout);
        let groups = groups.map_err(|e| self.failed(&what(), &e))?;
        let found = groups.groups().iter().find(|found| found.name() == group);
        let Some(found) = found.filter(|found| found.state() == STABLE) else { return Ok(None) };
        let member = |member: &rdkafka::groups::GroupMemberInfo| {
            let partitions = assignment(member.assignment().unwrap_or_default());
            let partitions = partitions.ok_or_else(|| Error::Request {
                what: what(),
                brokers: self.uncommitted.context().brokers.clone(),
                why: format!(
                    "found an assignment of member {} that is none of the consumer protocol; no other \
                     programs may be members of this group",
                    member.id()
                ),
                retriable: false,
            })?;
            Ok(GroupMember { client_id: member.client_id().to_owned(), partitions })
        };
        found.members().iter().map(member).collect::<Result<_, _>>().map(Some)
    }
}

/// The partitions of an assignment of the consumer protocol, any version of it: they are at its
/// beginning, `[version i16]`, then an array of topics with arrays of partitions (`ConsumerProtocol\
/// Assignment` in Kafka's message definitions). No bytes at all are no partitions.
fn assignment(mut bytes: &[u8]) -> Option<Vec<(String, u32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let bytes = &mut bytes;
    u16::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
    let mut partitions = Vec::new();
    // Counts are not trusted: what is not there ends it.
    for _ in 0..count(bytes)? {
        let length = u16::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(usize::from(length))?;
        *bytes = rest;
        let topic = std::str::from_utf8(name).ok()?;
        for _ in 0..count(bytes)? {
            partitions.push((topic.to_owned(), count(bytes)?));
        }
    }
    Some(partitions)
}

fn count(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(bytes)?)).ok()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(version: i16, topics: &[(String, Vec<u32>)], more: &[u8]) -> Vec<u8> {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend((topics.len() as i32).to_be_bytes());
        for (topic, partitions) in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|p| bytes.extend((*p as i32).to_be_bytes()));
        }
        bytes.extend(more);
        bytes
    }

    proptest! {
        #[test]
        fn what_a_member_was_given_is_read_in_any_version(
            version in 0..4i16,
            topics in prop::collection::vec(
                ("[a-z.]{1,20}", prop::collection::vec(0..i32::MAX as u32, 0..5)), 0..5),
            more in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let flat = topics.iter().flat_map(|(t, all)| all.iter().map(move |p| (t.clone(), *p)));
            let flat: Vec<_> = flat.collect();
            prop_assert_eq!(assignment(&encoded(version, &topics, &more)), Some(flat));
        }

        #[test]
        fn an_assignment_that_is_cut_off_is_refused(
            topics in prop::collection::vec(
                ("[a-z.]{1,20}", prop::collection::vec(0..9u32, 0..5)), 0..5),
            at in any::<prop::sample::Index>(),
        ) {
            let bytes = encoded(0, &topics, &[]);
            let cut = 1 + at.index(bytes.len() - 1);
            prop_assert_eq!(assignment(&bytes[..cut]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = assignment(&bytes);
        }
    }

    #[test]
    fn a_member_that_was_given_nothing_has_nothing() {
        assert_eq!(assignment(&[]), Some(Vec::new()));
        assert_eq!(assignment(&encoded(0, &[], &[])), Some(Vec::new()));
    }

    #[test]
    fn impossible_counts_and_names_are_refused() {
        let huge = [&[0, 0][..], &i32::MAX.to_be_bytes()].concat();
        let negative = [&[0, 0][..], &(-1i32).to_be_bytes()].concat();
        let no_name = [&[0, 0, 0, 0, 0, 1][..], &(-1i16).to_be_bytes()].concat();
        let not_utf8 = [0, 0, 0, 0, 0, 1, 0, 1, 0xff, 0, 0, 0, 0];
        let minus_one = encoded(0, &[("t".to_owned(), vec![u32::MAX])], &[]);
        for bytes in [&huge[..], &negative, &no_name, &not_utf8, &minus_one] {
            assert_eq!(assignment(bytes), None, "{bytes:?}");
        }
    }
}
