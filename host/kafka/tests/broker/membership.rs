use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wasmill_kafka::{Event, Membership, Strategy, Waker};

use crate::support::{TIMEOUT, corner, next_event, nothing_happens, until_assigned};

#[test]
fn cooperative_a_revocation_waits_for_its_acknowledgement() {
    a_revocation_waits(Strategy::Cooperative, "cooperative_a_revocation_waits");
}

#[test]
fn eager_a_revocation_waits_for_its_acknowledgement() {
    a_revocation_waits(Strategy::Eager, "eager_a_revocation_waits");
}

/// Partitions are not given to another member while their owner has not said that it is done.
fn a_revocation_waits(strategy: Strategy, test: &str) {
    let Some(corner) = corner(test) else { return };
    let topic = corner.topic("t", 4);
    let mut first = corner.join(&topic, strategy);
    assert_eq!(until_assigned(&mut first).len(), 4);
    let generation = first.metadata().unwrap().generation();

    let mut second = corner.join(&topic, strategy);
    let (mut who, mut revoked) = next_event(&mut [&mut first, &mut second]);
    while matches!(&revoked, Event::Assigned(none) if none.is_empty()) {
        [&mut first, &mut second][who].acknowledge(&revoked).unwrap();
        (who, revoked) = next_event(&mut [&mut first, &mut second]);
    }
    let Event::Revoked(partitions) = &revoked else { panic!("{who} has {revoked:?}") };
    assert_eq!(who, 0);
    assert_eq!(partitions.len(), if strategy == Strategy::Eager { 4 } else { 2 });
    assert!(first.is_rebalancing());
    // Longer than the session's timeout would be too long only without heartbeats.
    nothing_happens(&mut [&mut first, &mut second], Duration::from_secs(3));
    assert!(first.metadata().unwrap().generation() >= generation, "commits are still possible");
    first.acknowledge(&revoked).unwrap();

    let mut owned: [BTreeSet<(String, u32)>; 2] = Default::default();
    if strategy == Strategy::Cooperative {
        owned[0] = (0..4).map(|p| (topic.clone(), p)).filter(|p| !partitions.contains(p)).collect();
    }
    share_out(&mut first, &mut second, &mut owned, 4);
    assert_eq!(owned.map(|p| p.len()), [2, 2]);
    assert!(first.rebalances() >= 2);
}

/// Goes on until two members have as many partitions, none of them both.
fn share_out(
    first: &mut Membership,
    second: &mut Membership,
    owned: &mut [BTreeSet<(String, u32)>; 2],
    count: usize,
) {
    while owned.iter().map(BTreeSet::len).sum::<usize>() < count {
        let (who, event) = next_event(&mut [&mut *first, &mut *second]);
        [&mut *first, &mut *second][who].acknowledge(&event).unwrap();
        match event {
            Event::Assigned(partitions) => {
                partitions.iter().for_each(|p| assert!(!owned[1 - who].contains(p), "{p:?}"));
                owned[who].extend(partitions);
            }
            Event::Revoked(partitions) => {
                partitions.iter().for_each(|p| assert!(owned[who].remove(p)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn cooperative_a_revocation_waits_also_while_its_topic_grows() {
    a_revocation_waits_while_its_topic_grows(Strategy::Cooperative, "cooperative_a_topic_grows");
}

#[test]
fn eager_a_revocation_waits_also_while_its_topic_grows() {
    a_revocation_waits_while_its_topic_grows(Strategy::Eager, "eager_a_topic_grows");
}

/// The group heard at once that partitions were given up when their topic got more of them meanwhile, and
/// gave them to another member, while what was done with them could still be committed.
fn a_revocation_waits_while_its_topic_grows(strategy: Strategy, test: &str) {
    let Some(mut corner) = corner(test) else { return };
    let topic = corner.topic("t", 4);
    let often = ("topic.metadata.refresh.interval.ms".to_owned(), "200".to_owned());
    corner.settings.consumer.extend([often]);
    let mut first = corner.join(&topic, strategy);
    assert_eq!(until_assigned(&mut first).len(), 4);
    let mut second = corner.join(&topic, strategy);
    let (mut who, mut revoked) = next_event(&mut [&mut first, &mut second]);
    while matches!(&revoked, Event::Assigned(none) if none.is_empty()) {
        [&mut first, &mut second][who].acknowledge(&revoked).unwrap();
        (who, revoked) = next_event(&mut [&mut first, &mut second]);
    }
    assert!(who == 0 && matches!(revoked, Event::Revoked(_)), "{who} has {revoked:?}");

    let generation = first.metadata().unwrap().generation();
    corner.grow(&topic, 6);
    // The second one, which has nothing to give up, joins again.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        for event in second.poll(Duration::from_millis(10)) {
            let gets = matches!(&event, Event::Assigned(some) if !some.is_empty());
            assert!(!gets, "{event:?}, while {revoked:?} is not acknowledged");
            second.acknowledge(&event).unwrap();
        }
        assert_eq!(first.poll(Duration::ZERO), []);
        assert_eq!(first.metadata().unwrap().generation(), generation);
    }
    first.acknowledge(&revoked).unwrap();
    let mut owned: [BTreeSet<(String, u32)>; 2] = Default::default();
    if strategy == Strategy::Cooperative {
        let Event::Revoked(partitions) = &revoked else { unreachable!() };
        owned[0] = (0..4).map(|p| (topic.clone(), p)).filter(|p| !partitions.contains(p)).collect();
    }
    share_out(&mut first, &mut second, &mut owned, 6);
    assert_eq!(owned.map(|p| p.len()), [3, 3]);
}

#[test]
fn cooperative_an_assignment_waits_also_while_its_topic_grows() {
    an_assignment_waits_while_its_topic_grows(Strategy::Cooperative, "cooperative_assignment");
}

#[test]
fn eager_an_assignment_waits_also_while_its_topic_grows() {
    an_assignment_waits_while_its_topic_grows(Strategy::Eager, "eager_assignment");
}

/// The same before partitions are taken: what the group asks for next comes when that is done.
fn an_assignment_waits_while_its_topic_grows(strategy: Strategy, test: &str) {
    let Some(mut corner) = corner(test) else { return };
    let topic = corner.topic("t", 4);
    let often = ("topic.metadata.refresh.interval.ms".to_owned(), "200".to_owned());
    corner.settings.consumer.extend([often]);
    let mut member = corner.join(&topic, strategy);
    let (_, assigned) = next_event(&mut [&mut member]);
    assert!(matches!(&assigned, Event::Assigned(some) if some.len() == 4), "{assigned:?}");
    let generation = member.metadata().unwrap().generation();
    corner.grow(&topic, 6);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(member.poll(Duration::from_millis(10)), []);
        assert_eq!(member.metadata().unwrap().generation(), generation);
    }
    member.acknowledge(&assigned).unwrap();
    let mut next = || {
        let (_, event) = next_event(&mut [&mut member]);
        member.acknowledge(&event).unwrap();
        event
    };
    let counts = match strategy {
        Strategy::Cooperative => vec![(true, 2)],
        Strategy::Eager => vec![(false, 4), (true, 6)],
    };
    for (expected, count) in counts {
        let event = next();
        let (Event::Assigned(some) | Event::Revoked(some)) = &event else { panic!("{event:?}") };
        assert_eq!((matches!(event, Event::Assigned(_)), some.len()), (expected, count));
    }
}

#[test]
fn who_leaves_hands_over_at_once() {
    let Some(corner) = corner("who_leaves") else { return };
    let topic = corner.topic("t", 2);
    let mut first = corner.join(&topic, Strategy::Cooperative);
    until_assigned(&mut first);
    first.leave();
    let start = Instant::now();
    let mut second = corner.join(&topic, Strategy::Cooperative);
    assert_eq!(until_assigned(&mut second).len(), 2);
    assert!(start.elapsed() < Duration::from_secs(9), "the session's timeout was waited for");
}

#[test]
fn who_is_silent_loses_its_partitions_and_can_commit_nothing() {
    let Some(corner) = corner("who_is_silent") else { return };
    let topic = corner.topic("t", 2);
    let mut settings = corner.settings.clone();
    settings.consumer.insert("session.timeout.ms".to_owned(), "2000".to_owned());
    settings.consumer.insert("max.poll.interval.ms".to_owned(), "2500".to_owned());
    let join = |waker: &Waker| {
        let strategy = Strategy::Cooperative;
        Membership::join(&settings, &corner.name, &[&topic], strategy, None, waker).unwrap()
    };
    let waker = Waker::default();
    let mut silent = join(&waker);
    until_assigned(&mut silent);
    let mut other = join(&Waker::default());
    // The first does not poll, so the second gets everything.
    let deadline = Instant::now() + TIMEOUT;
    let mut taken = 0;
    while taken < 2 {
        assert!(Instant::now() < deadline, "the silent member keeps its partitions");
        let (_, event) = next_event(&mut [&mut other]);
        other.acknowledge(&event).unwrap();
        taken += if let Event::Assigned(partitions) = event { partitions.len() } else { 0 };
    }
    assert!(waker.wait(TIMEOUT), "the waker is raised for the loss");
    let mut lost = 0;
    while lost < 2 {
        let (_, event) = next_event(&mut [&mut silent]);
        let Event::Lost(partitions) = &event else { panic!("{event:?}") };
        lost += partitions.len();
        let refused = silent.metadata().unwrap_err();
        assert!(refused.to_string().contains(&corner.name), "{refused}");
        silent.acknowledge(&event).unwrap();
    }
    // It comes back as a new member and gets one of them anew.
    let mut assigned = 0;
    while assigned == 0 {
        let (who, event) = next_event(&mut [&mut silent, &mut other]);
        [&mut silent, &mut other][who].acknowledge(&event).unwrap();
        if let (0, Event::Assigned(partitions)) = (who, &event) {
            assigned = partitions.len();
        }
    }
    assert_eq!(assigned, 1);
    silent.metadata().unwrap();
}

#[test]
fn a_static_member_keeps_its_partitions_over_a_restart() {
    let Some(corner) = corner("a_static_member") else { return };
    let topic = corner.topic("t", 2);
    let join = || {
        let (waker, strategy) = (Waker::default(), Strategy::Cooperative);
        let (settings, group) = (&corner.settings, &corner.name);
        Membership::join(settings, group, &[&topic], strategy, Some("one"), &waker).unwrap()
    };
    let mut member = join();
    until_assigned(&mut member);
    let generation = member.metadata().unwrap().generation();
    drop(member);
    let mut member = join();
    assert_eq!(until_assigned(&mut member).len(), 2);
    assert_eq!(member.metadata().unwrap().generation(), generation, "nobody else had to move");
}

#[test]
fn others_see_what_each_member_of_a_group_has() {
    let Some(mut corner) = corner("others_see_members") else { return };
    let topic = corner.topic("t", 3);
    let admin = corner.admin();
    let group = corner.name.clone();
    let seen = || loop {
        match admin.members(&group, TIMEOUT) {
            // A new broker takes a while until it coordinates groups.
            Err(error) if error.is_retriable() => std::thread::sleep(Duration::from_millis(100)),
            seen => break seen.unwrap(),
        }
    };
    assert_eq!(seen(), Some(Vec::new()), "there is no such group");
    let mut join = |name: &str| {
        corner.settings.consumer.insert("client.id".to_owned(), name.to_owned());
        corner.join(&topic, Strategy::Cooperative)
    };
    let mut members = [join("first"), join("second")];
    let mut owned: [BTreeSet<(String, u32)>; 2] = Default::default();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let [first, second] = &mut members;
        let (who, event) = next_event(&mut [first, second]);
        members[who].acknowledge(&event).unwrap();
        match event {
            Event::Assigned(partitions) => owned[who].extend(partitions),
            Event::Revoked(partitions) => owned[who].retain(|p| !partitions.contains(p)),
            other => panic!("{other:?}"),
        }
        if owned.iter().all(|owned| !owned.is_empty())
            && owned.iter().map(BTreeSet::len).sum::<usize>() == 3
        {
            break;
        }
    }
    loop {
        let seen = seen().unwrap_or_default();
        let of = |name: &str| -> BTreeSet<_> {
            let those = seen.iter().filter(|m| m.client_id == name);
            those.flat_map(|m| m.partitions.iter().cloned()).collect()
        };
        if [of("first"), of("second")] == owned && seen.len() == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "found {seen:?}, expected {owned:?}");
        members.iter_mut().for_each(|m| drop(m.poll(Duration::from_millis(20))));
    }
}
