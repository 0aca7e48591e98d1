//! Which instance keeps a copy of which unit's state. Invariant: every instance that sees the same
//! group comes to the same result, and the owner of a unit is never among its standbys.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_kafka::{GroupMember, Settings};

/// The setting by which members are told apart.
const CLIENT_ID: &str = "client.id";
/// What a client is called when its user has no other wish.
const CLIENT: &str = "wasmill";
/// How many hexadecimal digits the name of an instance has.
const DIGITS: usize = 16;

/// The settings of a member of the group: its client's name ends with that of its instance.
pub(in crate::engine::kafka) fn member_settings(settings: &Settings, instance: &str) -> Settings {
    let mut settings = settings.clone();
    let wish = settings.consumer.get(CLIENT_ID).or_else(|| settings.properties.get(CLIENT_ID));
    let id = format!("{}-{instance}", wish.map_or(CLIENT, String::as_str));
    settings.consumer.insert(CLIENT_ID.to_owned(), id);
    settings
}

/// The instance that a member of the group belongs to.
fn instance_of(client_id: &str) -> Option<&str> {
    let (_, instance) = client_id.rsplit_once('-')?;
    let is_digit = |c| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    (instance.len() == DIGITS && instance.bytes().all(is_digit)).then_some(instance)
}

/// A unit in the group: a partition of the topic that stands for it.
pub(super) type Stand = (String, u32);

/// The units of which the instance is to keep a copy, so that each has `copies` beside its owner, or
/// as many as there are other instances.
pub(super) fn kept_by<'u>(
    instance: &str,
    units: impl IntoIterator<Item = &'u Stand>,
    members: &[GroupMember],
    copies: usize,
) -> BTreeSet<&'u Stand> {
    let known = || members.iter().filter_map(|m| Some((instance_of(&m.client_id)?, m)));
    let instances: BTreeSet<&str> = known().map(|(instance, _)| instance).collect();
    let owners: BTreeMap<&Stand, &str> = known()
        .flat_map(|(instance, member)| member.partitions.iter().map(move |p| (p, instance)))
        .collect();
    let keeps = |unit: &&Stand| {
        let owner = owners.get(unit).copied();
        standbys(unit, owner, &instances, copies).contains(&instance)
    };
    units.into_iter().filter(keeps).collect()
}

/// The instances that keep a copy of a unit: those of the greatest weights but its owner (rendezvous
/// hashing), so that units move only from instances that go and to instances that come.
fn standbys<'a>(
    unit: &Stand,
    owner: Option<&str>,
    instances: &BTreeSet<&'a str>,
    copies: usize,
) -> Vec<&'a str> {
    let others = instances.iter().copied().filter(|instance| Some(*instance) != owner);
    let mut ranked: Vec<(u64, &str)> = others.map(|i| (weight(unit, i), i)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().take(copies).map(|(_, instance)| instance).collect()
}

/// The weight of an instance for a unit. All instances must agree on it, whatever their version:
/// FNV-1a (64 bits) over topic, partition and instance, mixed by the last steps of MurmurHash3, as
/// instances would differ by little in the upper bits otherwise.
fn weight((topic, partition): &Stand, instance: &str) -> u64 {
    let bytes = topic.bytes().chain([0]).chain(partition.to_be_bytes()).chain(instance.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stand(partition: u32) -> Stand {
        ("clicks".to_owned(), partition)
    }

    fn name(instance: usize) -> String {
        format!("{:016x}", (instance as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(name).collect()
    }

    /// A group whose instances have two members each, and own the partitions in turn.
    fn group(instances: &[String], partitions: u32) -> Vec<GroupMember> {
        let mut members: Vec<GroupMember> = instances
            .iter()
            .chain(instances)
            .map(|i| GroupMember { client_id: format!("wasmill-{i}"), partitions: Vec::new() })
            .collect();
        for partition in 0..partitions {
            let member = partition as usize % members.len();
            members[member].partitions.push(stand(partition));
        }
        members
    }

    proptest! {
        #[test]
        fn each_unit_has_its_copies_and_none_is_its_owners(
            count in 1..6usize, partitions in 1..40u32, copies in 0..9usize,
        ) {
            let (instances, units) = (names(count), (0..partitions).map(stand).collect::<Vec<_>>());
            let members = group(&instances, partitions);
            let mut kept: BTreeMap<&Stand, usize> = BTreeMap::new();
            for instance in &instances {
                for unit in kept_by(instance, &units, &members, copies) {
                    *kept.entry(unit).or_default() += 1;
                    let own = members.iter().filter(|m| m.client_id.ends_with(instance));
                    prop_assert!(own.clone().all(|m| !m.partitions.contains(unit)));
                }
            }
            let expected = copies.min(count - 1);
            let all = units.iter().all(|u| kept.get(u).copied().unwrap_or(0) == expected);
            prop_assert!(all, "{:?}", kept);
        }

        #[test]
        fn only_the_copies_of_an_instance_that_leaves_move(
            count in 2..6usize, leaves in any::<prop::sample::Index>(), copies in 1..4usize,
            partition in 0..50u32, owner in any::<prop::sample::Index>(),
        ) {
            let instances = names(count);
            let leaves = instances[leaves.index(count)].as_str();
            let owner = instances[owner.index(count)].as_str();
            prop_assume!(owner != leaves);
            let mut present: BTreeSet<&str> = instances.iter().map(String::as_str).collect();
            let before = standbys(&stand(partition), Some(owner), &present, copies);
            present.remove(leaves);
            let after = standbys(&stand(partition), Some(owner), &present, copies);
            let stay: Vec<_> = before.iter().filter(|i| **i != leaves).copied().collect();
            prop_assert_eq!(&after[..stay.len()], &stay[..]);
            prop_assert!(before.contains(&leaves) || before == after);
        }

        #[test]
        fn a_standby_that_becomes_the_owner_changes_no_other(
            count in 2..6usize, copies in 1..4usize, partition in 0..50u32,
        ) {
            let instances = names(count);
            let mut present: BTreeSet<&str> = instances.iter().map(String::as_str).collect();
            let owner = instances[0].as_str();
            let before = standbys(&stand(partition), Some(owner), &present, copies);
            present.remove(owner);
            let after = standbys(&stand(partition), Some(before[0]), &present, copies);
            prop_assert_eq!(&after[..before.len() - 1], &before[1..]);
        }
    }

    #[test]
    fn copies_are_spread_over_the_instances() {
        let (instances, units) = (names(4), (0..400).map(stand).collect::<Vec<_>>());
        let members = group(&instances, 400);
        for instance in &instances {
            let kept = kept_by(instance, &units, &members, 1).len();
            assert!((60..140).contains(&kept), "{instance} keeps {kept} of 400 units");
        }
    }

    #[test]
    fn a_weight_stays_what_it_was() {
        assert_eq!(weight(&stand(7), "00112233445566ff"), 0xc2e0_64d7_1d31_450a);
    }

    #[test]
    fn an_instance_that_is_alone_or_not_there_keeps_nothing() {
        let units = [stand(0), stand(1)];
        let members = group(&names(1), 2);
        assert!(kept_by(&name(0), &units, &members, 3).is_empty());
        assert!(kept_by(&name(5), &units, &members, 3).is_empty());
    }

    #[test]
    fn a_member_tells_its_instance_whatever_its_user_calls_it() {
        let mut settings = Settings::new("localhost:9092");
        let id = |s: &Settings| member_settings(s, &name(1)).consumer[CLIENT_ID].clone();
        assert_eq!(id(&settings), format!("wasmill-{}", name(1)));
        settings.properties.insert(CLIENT_ID.to_owned(), "shop".to_owned());
        assert_eq!(id(&settings), format!("shop-{}", name(1)));
        settings.consumer.insert(CLIENT_ID.to_owned(), "shop-eu".to_owned());
        assert_eq!(instance_of(&id(&settings)), Some(name(1).as_str()));
        for other in ["rdkafka", "a-b", "wasmill-", "wasmill-00112233445566FF"] {
            assert_eq!(instance_of(other), None, "{other}");
        }
    }
}
