//! Taking part in a consumer group. Invariant: partitions are taken or given up only when the worker
//! has acknowledged that; until then the group waits, as long as `max.poll.interval.ms` allows.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Client, consumer, failed, number};
use crate::context::Rebalance;
use crate::native::group;
use crate::settings::Role;
use crate::{Error, Settings, Stats, Waker};

/// How long giving up partitions at the end may take.
const LEAVING: Duration = Duration::from_secs(2);

/// How partitions move between members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Only those that must move are given up (cooperative-sticky, KIP-429).
    #[default]
    Cooperative,
    /// All are given up at every rebalance (range, round-robin).
    Eager,
}

/// A member of a group; it reads no data.
pub struct Membership {
    client: Arc<Client>,
    group: String,
    is_static: bool,
    rebalances: u64,
    /// The partitions that were taken, and the member's id at the time.
    owned: BTreeSet<(String, u32)>,
    owner_id: String,
    /// The generation at which partitions are to be given up, as long as that is not acknowledged: at a
    /// later one others may have them. The client does not join again before (see `vendor`); where it is
    /// one that does, this is what keeps the most of it from harm.
    giving_up: Option<i32>,
    /// Events that are to be handed out.
    ready: VecDeque<Event>,
    /// Events that were handed out and not acknowledged.
    open: VecDeque<Event>,
}

/// What the group asks for. Each but [`Event::Error`] is to be acknowledged, in the order that they
/// came in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the group waits until it is acknowledged"]
pub enum Event {
    /// These partitions are to be taken; with [`Strategy::Cooperative`] in addition to those before.
    Assigned(Vec<(String, u32)>),
    /// These partitions are to be given up. Until that is acknowledged no other member gets them, so
    /// what was done with them can still be committed.
    Revoked(Vec<(String, u32)>),
    /// These partitions were given to others already: nothing can be committed for them any more.
    Lost(Vec<(String, u32)>),
    /// Something went wrong. The client goes on by itself unless it is fatal.
    Error {
        /// What librdkafka says.
        why: String,
        /// Whether this member is of no use any more and is to be made anew.
        fatal: bool,
    },
}

/// There is no membership that Kafka could check a commit against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this worker is not a member of group {group} at the moment (generation {generation}), so \
     nothing can be committed: wait for the next assignment"
)]
pub struct NotAMember {
    /// The group.
    pub group: String,
    /// The generation that librdkafka tells; -1 for none.
    pub generation: i32,
}

/// Proof of membership at one generation, which Kafka checks offsets against (KIP-447).
#[derive(Debug, Clone)]
pub struct GroupMetadata {
    pub(crate) raw: Arc<group::Raw>,
    pub(crate) member: Member,
    generation: i32,
    member_id: String,
}

/// The client that offsets without transactions are committed by.
#[derive(Clone)]
pub(crate) struct Member(pub(crate) Arc<Client>);

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Member")
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Membership(group {} at {})", self.group, self.client.context().brokers)
    }
}

impl GroupMetadata {
    /// The generation of the group, from 1.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The member's id; never empty.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }
}

impl Membership {
    /// Joins a group for topics; `waker` is raised when [`Membership::poll`] has something.
    ///
    /// A `static_member` keeps its partitions over a restart within the session timeout (KIP-345);
    /// no two members at a time may have the same name.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Request`] when the settings or names can't be used. That no
    /// broker can be reached is an [`Event::Error`].
    pub fn join(
        settings: &Settings,
        group: &str,
        topics: &[&str],
        strategy: Strategy,
        static_member: Option<&str>,
        waker: &Waker,
    ) -> Result<Self, Error> {
        let mut owned = vec![
            ("group.id", group),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "latest"),
            (
                "partition.assignment.strategy",
                match strategy {
                    Strategy::Cooperative => "cooperative-sticky",
                    Strategy::Eager => "range,roundrobin",
                },
            ),
        ];
        owned.extend(static_member.map(|name| ("group.instance.id", name)));
        let mut client = consumer(settings, Role::Membership, &owned)?;
        let waker = waker.clone();
        client.set_nonempty_callback(move || waker.wake());
        client.subscribe(topics).map_err(|error| {
            let what = format!("joining group {group} for {}", topics.join(", "));
            failed(client.context(), what, &error)
        })?;
        Ok(Self {
            client: Arc::new(client),
            group: group.to_owned(),
            is_static: static_member.is_some(),
            rebalances: 0,
            owned: BTreeSet::new(),
            owner_id: String::new(),
            giving_up: None,
            ready: VecDeque::new(),
            open: VecDeque::new(),
        })
    }

    /// Serves the group protocol for at most `timeout` and returns what it asks for, one thing at a
    /// time, and what went wrong. To be called well within `max.poll.interval.ms`, also while an
    /// event is not acknowledged yet, or else the group takes the member for dead.
    pub fn poll(&mut self, timeout: Duration) -> Vec<Event> {
        let deadline = Instant::now() + timeout;
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = if self.ready.is_empty() { left } else { Duration::ZERO };
            // Records that slipped in before their partition was paused are dropped.
            let polled = self.client.poll(left);
            let quiet = polled.is_none();
            if let Some(Err(error)) = polled {
                events.extend(self.failure(&error));
            }
            while let Some(rebalance) = self.client.context().next_rebalance() {
                self.understand(rebalance);
            }
            events.extend(self.hand_out());
            if !events.is_empty() || (quiet && left.is_zero()) {
                return events;
            }
        }
    }

    fn hand_out(&mut self) -> Option<Event> {
        let event = self.ready.pop_front()?;
        if !matches!(event, Event::Error { .. }) {
            self.rebalances += 1;
            self.open.push_back(event.clone());
        }
        Some(event)
    }

    /// Does what the event asks for: takes its partitions, or gives them up.
    ///
    /// # Errors
    /// [`Error::Request`] when librdkafka refuses; the member is to be made anew then.
    pub fn acknowledge(&mut self, event: &Event) -> Result<(), Error> {
        let cooperative =
            matches!(self.client.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let (what, done) = match event {
            Event::Error { .. } => return Ok(()),
            Event::Assigned(partitions) => {
                self.owned.extend(partitions.iter().cloned());
                self.owner_id = self.id().unwrap_or_default();
                ("taking", self.take(partitions, cooperative))
            }
            Event::Revoked(partitions) | Event::Lost(partitions) => {
                self.owned.retain(|owned| !partitions.contains(owned));
                ("giving up", self.give_up(partitions, cooperative))
            }
        };
        self.open.pop_front();
        let mut left = self.open.iter().chain(&self.ready);
        if !left.any(|event| matches!(event, Event::Revoked(_) | Event::Lost(_))) {
            self.giving_up = None;
        }
        done.map_err(|error| {
            let what = format!("{what} partitions of group {}", self.group);
            failed(self.client.context(), what, &error)
        })
    }

    /// The membership as it is now, for a commit.
    ///
    /// # Errors
    /// [`NotAMember`] when Kafka could not check it: it takes offsets without generation and member
    /// from anybody.
    pub fn metadata(&self) -> Result<GroupMetadata, NotAMember> {
        let absent = |generation| NotAMember { group: self.group.clone(), generation };
        let raw = group::Raw::of(&self.client).ok_or_else(|| absent(-1))?;
        let (generation, member_id) = (raw.generation(), raw.member_id());
        let another = !self.owned.is_empty() && member_id != self.owner_id;
        let later = self.giving_up.is_some_and(|known| known != generation);
        if generation < 0 || member_id.is_empty() || another || later {
            return Err(absent(generation));
        }
        let member = Member(Arc::clone(&self.client));
        Ok(GroupMetadata { raw: Arc::new(raw), member, generation, member_id })
    }

    /// The member's id; none while there is no membership.
    fn id(&self) -> Option<String> {
        let raw = group::Raw::of(&self.client)?;
        (raw.generation() >= 0).then(|| raw.member_id()).filter(|id| !id.is_empty())
    }

    /// Whether partitions are owned that were given to an earlier membership, which has ended. What
    /// the group asks for may tell of it only in part: a member that was thrown out while it was to
    /// give up one partition is not told about its others, and comes back as if it still had them.
    fn has_lost(&self) -> bool {
        !self.owned.is_empty() && self.id().as_ref() != Some(&self.owner_id)
    }

    /// How often partitions were assigned, revoked or lost.
    pub fn rebalances(&self) -> u64 {
        self.rebalances
    }

    /// Whether events were handed out and not acknowledged yet.
    pub fn is_rebalancing(&self) -> bool {
        !self.open.is_empty() || !self.ready.is_empty()
    }

    /// The client's figures.
    pub fn stats(&self) -> Stats {
        self.client.context().current_stats()
    }

    /// Gives up all partitions and leaves the group, so that others get them at once. A static
    /// member keeps them until its session times out. Dropping a membership does the same.
    pub fn leave(self) {}

    /// Turns what librdkafka asks for into what the worker must know.
    fn understand(&mut self, rebalance: Rebalance) {
        let everything = |partitions: Vec<_>| {
            let all: BTreeSet<_> = self.owned.iter().cloned().chain(partitions).collect();
            Event::Lost(all.into_iter().collect())
        };
        if matches!(rebalance, Rebalance::Revoke { .. }) {
            let generation = group::Raw::of(&self.client).map_or(-1, |raw| raw.generation());
            self.giving_up.get_or_insert(generation);
        }
        match rebalance {
            Rebalance::Assign(partitions) => {
                if self.has_lost() {
                    self.ready.push_back(everything(Vec::new()));
                }
                self.ready.push_back(Event::Assigned(partitions));
            }
            Rebalance::Revoke { partitions, lost } if lost || self.has_lost() => {
                self.ready.push_back(everything(partitions));
            }
            Rebalance::Revoke { partitions, .. } => {
                self.ready.push_back(Event::Revoked(partitions));
            }
            Rebalance::Failed(why) => self.ready.push_back(Event::Error { why, fatal: false }),
        }
    }

    fn failure(&self, error: &KafkaError) -> Option<Event> {
        let context = self.client.context();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        // A membership reads nothing, so where reading begins does not matter to it.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            return None;
        }
        let why = match context.take_error() {
            Some(reason) => reason,
            None => context.redaction.scrub(&error.to_string()),
        };
        Some(Event::Error { why, fatal })
    }

    fn take(&self, partitions: &[(String, u32)], cooperative: bool) -> Result<(), KafkaError> {
        // From the end, and paused before that is known: nothing is ever fetched.
        let list = listed(partitions, Offset::End)?;
        if cooperative {
            self.client.incremental_assign(&list)?;
        } else {
            self.client.assign(&list)?;
        }
        if partitions.is_empty() { Ok(()) } else { self.client.pause(&list) }
    }

    fn give_up(&self, partitions: &[(String, u32)], cooperative: bool) -> Result<(), KafkaError> {
        if cooperative {
            // It refuses what it does not have, and waits for the call even if there is nothing.
            let assigned = self.client.assignment()?;
            let has = |(topic, partition): &&(String, u32)| {
                assigned.find_partition(topic, number(*partition)).is_some()
            };
            let those: Vec<_> = partitions.iter().filter(has).cloned().collect();
            self.client.incremental_unassign(&listed(&those, Offset::Invalid)?)
        } else {
            self.client.unassign()
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Closing waits for partitions that are to be given up, and for answers that are due.
        let context = Arc::clone(self.client.context());
        context.close();
        while let Some(rebalance) = context.next_rebalance() {
            self.understand(rebalance);
        }
        while self.hand_out().is_some() {}
        while let Some(event) = self.open.front().cloned() {
            if let Err(error) = self.acknowledge(&event) {
                tracing::debug!(%error, "leaving");
            }
        }
        if self.is_static {
            return;
        }
        // The client itself may live on in a commit that is not decided.
        self.client.unsubscribe();
        let deadline = Instant::now() + LEAVING;
        while self.client.assignment().is_ok_and(|list| list.count() > 0)
            && Instant::now() < deadline
        {
            let _ = self.client.poll(Duration::from_millis(10));
        }
    }
}

pub(crate) fn listed(
    partitions: &[(String, u32)],
    offset: Offset,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, number(*partition), offset)?;
    }
    Ok(list)
}
