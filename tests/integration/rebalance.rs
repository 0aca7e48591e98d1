//! Tasks that move between instances, and those that don't.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use wasmill_kafka::{Event, Membership, Producer, Strategy, Waker};

use crate::ledger::{self, Feed, PARTITIONS};
use crate::support::Record;
use crate::world::{Instance, TIMEOUT, World, tasks};

/// How often the group has given the worker of an instance partitions or taken some.
fn rebalances(status: &Value) -> u64 {
    status["workers"]["0"]["rebalances"].as_u64().unwrap()
}

/// How many records the tasks of an instance have had since they were opened.
fn records(status: &Value) -> u64 {
    let tasks = status["tasks"].as_object().unwrap().values();
    let stages = tasks.flat_map(|task| task["stages"].as_array().unwrap());
    stages.map(|stage| stage["counts"]["records_in"].as_u64().unwrap()).sum()
}

/// How often the worker of an instance has dropped what it had done.
fn rollbacks(status: &Value) -> u64 {
    status["workers"]["0"]["rollbacks"].as_u64().unwrap()
}

/// How often the worker of an instance has committed.
fn commits(status: &Value) -> u64 {
    status["workers"]["0"]["commits"]["count"].as_u64().unwrap()
}

fn now_ms() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// The partitions of an instance's tasks that it has had from one time to another.
fn stayed(from: &Value, to: &Value) -> BTreeSet<u32> {
    let have = |status: &Value| tasks(status).into_iter().collect::<BTreeSet<_>>();
    let kept = have(from).intersection(&have(to)).cloned().collect::<Vec<_>>();
    let same = |task: &&String| from["assignments"][*task] == to["assignments"][*task];
    kept.iter().filter(same).map(|task| task.split_once('-').unwrap().1.parse().unwrap()).collect()
}

/// The longest time within these in which nothing of a partition of the input was processed, in ms.
fn longest_pause(records: &[Record], partition: u32, (from, to): (i64, i64)) -> i64 {
    let of = |r: &&Record| ledger::partition(ledger::number(r)) == partition;
    let times = records.iter().filter(of).map(|r| r["timestamp"].as_i64().unwrap());
    let mut times: Vec<i64> = times.filter(|time| (from..to).contains(time)).collect();
    times.extend([from, to]);
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[test]
fn tasks_that_do_not_move_go_on_while_the_group_rebalances() {
    /// How long the group is kept from ending a rebalance at least.
    const HELD: Duration = Duration::from_secs(6);
    /// The time between commits, which the pause is to be shorter than.
    const INTERVAL: Duration = Duration::from_secs(3);
    let Some(world) = ledger::world("tasks_that_do_not_move") else { return };
    // Nobody is thrown out of the group: it waits for whoever does not answer.
    let session = "kafka.consumer.session.timeout.ms=45000";
    let interval = format!("engine.checkpoint-interval={}s", INTERVAL.as_secs());
    let set = ["--set", &interval, "--set", session];
    let [a, b] = ["a", "b"].map(|name| world.start(name, &set));
    let feed = Feed::start(&world, 600);
    let before = a.wait_tasks(3);
    b.wait_tasks(3);
    ledger::wait_for_more(&world);

    let from = now_ms();
    b.signal("STOP");
    let c = world.start("c", &set);
    let begun = Instant::now();
    while begun.elapsed() < HELD {
        // Also commits: what comes out is what is committed.
        ledger::wait_for_more(&world);
    }
    let status = c.try_status().unwrap();
    assert_eq!(tasks(&status), [""; 0], "the group did not wait for the one that is suspended");
    b.signal("CONT");
    for instance in [&a, &b, &c] {
        instance.wait_tasks(2);
    }
    let after = a.wait_tasks(2);
    ledger::wait_for_more(&world);
    let to = now_ms();
    // It leaves, and what it had goes back.
    c.end();
    a.wait_tasks(3);
    b.wait_tasks(3);
    let total = feed.end();
    let records = ledger::wait_for(&world, total);
    ledger::assert_exact(&records, total);

    let pauses: Vec<_> = (0..PARTITIONS).map(|p| longest_pause(&records, p, (from, to))).collect();
    let stayed = stayed(&before, &after);
    eprintln!("pauses in ms: {pauses:?}; {stayed:?} stayed; {:?}", after["workers"]["0"]);
    assert_eq!(stayed.len(), 2, "{before:#} {after:#}");
    for partition in stayed {
        let pause = Duration::from_millis(pauses[partition as usize].unsigned_abs());
        assert!(pause < INTERVAL, "partition {partition} stood still for {pause:?}: {}", a.said());
    }
}

/// A member of the group that takes its share of the partitions and leaves them alone: it costs the machine
/// nothing, as an instance that starts would.
struct Idler {
    stop: Arc<AtomicBool>,
    has: Arc<AtomicUsize>,
    joined: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Idler {
    fn join(world: &World) -> Self {
        let (stop, has) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let joined = Arc::<AtomicBool>::default();
        let (stopped, share, settings) = (stop.clone(), has.clone(), world.settings());
        let is_in = joined.clone();
        let thread = std::thread::spawn(move || {
            let (waker, cooperative) = (Waker::default(), Strategy::Cooperative);
            let member = Membership::join(&settings, "ledger", &["in"], cooperative, None, &waker);
            let mut member = member.unwrap();
            while !stopped.load(Ordering::Relaxed) {
                is_in.store(member.metadata().is_ok(), Ordering::Relaxed);
                for event in member.poll(Duration::from_millis(10)) {
                    match &event {
                        Event::Assigned(some) => _ = share.fetch_add(some.len(), Ordering::Relaxed),
                        Event::Revoked(some) | Event::Lost(some) => {
                            share.fetch_sub(some.len(), Ordering::Relaxed);
                        }
                        Event::Error { .. } => continue,
                    }
                    member.acknowledge(&event).unwrap();
                }
            }
            member.leave();
        });
        Self { stop, has, joined, thread: Some(thread) }
    }

    /// Whether the group is at a generation that it is part of.
    fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// How many partitions it has.
    fn has(&self) -> usize {
        self.has.load(Ordering::Relaxed)
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of it has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Where tasks stay while others move, what is processed of their partitions pauses for no longer than it
/// does anyway, but for less than the time between commits: 100 ms, and more where the machine is too busy
/// for that. Nothing of them is computed again, also where a commit meets the next generation.
///
/// A single pause may be the machine's doing, on which brokers and instances share the processors, so what
/// is compared are medians: of the longest pauses of partitions that stay in each rebalance, and of those
/// in as long a time without one right after it. Nine of ten are no longer than a commit that is sent again
/// makes them: what it holds then bears the time at which it was sent last, after all that was processed
/// between two commits. Other tests may keep the machine busy at just that time: it is measured up to three
/// times, and what stalls tasks that stay does so each time.
#[test]
fn the_pause_of_tasks_that_do_not_move_is_under_one_commit_interval() {
    let mut said = Vec::new();
    for _ in 0..3 {
        let Some(world) = ledger::world("the_pause_of_tasks") else { return };
        match pauses(&world) {
            Ok(()) => return,
            Err(why) => said.push(why),
        }
    }
    panic!("{said:?}");
}

/// Why the pauses of partitions that stay are too long, if they are.
fn pauses(world: &World) -> Result<(), String> {
    const ROUNDS: usize = 5;
    let set = ["--set", "kafka.consumer.session.timeout.ms=45000"];
    let [a, b] = ["a", "b"].map(|name| world.start(name, &set));
    let feed = Feed::start(world, 600);
    let both = |count: usize| [&a, &b].map(|instance| instance.wait_tasks(count));
    let mut before = both(3);
    ledger::wait_for_more(world);
    let commits = || [&a, &b].map(|instance| commits(&instance.try_status().unwrap()));
    let (first, begun) = (commits(), Instant::now());

    let mut windows = Vec::new();
    let mut window = |from: i64, after: [Value; 2]| {
        let to = now_ms();
        let stay: BTreeSet<u32> =
            before.iter().zip(&after).flat_map(|(before, after)| stayed(before, after)).collect();
        before = after;
        // As long a time in which nothing moves, with the same questions.
        while now_ms() < to + (to - from) {
            let _ = [&a, &b].map(Instance::try_status);
            std::thread::sleep(Duration::from_millis(50));
        }
        windows.push(((from, to), (to, now_ms()), stay));
    };
    for _ in 0..ROUNDS {
        let from = now_ms();
        let idler = Idler::join(world);
        let (after, begun) = (both(2), Instant::now());
        while idler.has() < 2 {
            assert!(begun.elapsed() < TIMEOUT, "it has only {} of its partitions", idler.has());
            std::thread::sleep(Duration::from_millis(5));
        }
        window(from, after);
        let from = now_ms();
        drop(idler);
        window(from, both(3));
    }
    let (last, elapsed) = (commits(), begun.elapsed());
    let rollbacks = [&a, &b].map(|a| rollbacks(&a.try_status().unwrap()));
    let total = feed.end();
    let records = ledger::wait_for(world, total);
    ledger::assert_exact(&records, total);
    let each = (last[0] - first[0] + last[1] - first[1]) / 2;
    let interval = i64::try_from(elapsed.as_millis()).unwrap() / i64::try_from(each).unwrap();

    let (mut moving, mut resting) = (Vec::new(), Vec::new());
    for (rebalance, rest, stay) in windows {
        moving.extend(stay.iter().map(|p| longest_pause(&records, *p, rebalance)));
        resting.extend(stay.iter().map(|p| longest_pause(&records, *p, rest)));
    }
    // Mostly four of six stay, and now and then fewer.
    if moving.len() < 2 * ROUNDS * 2 {
        return Err(format!(
            "only {} partitions stayed in {} rebalances",
            moving.len(),
            2 * ROUNDS
        ));
    }
    let median = |pauses: &mut Vec<i64>| {
        pauses.sort_unstable();
        pauses[pauses.len() / 2]
    };
    let medians = (median(&mut moving), median(&mut resting));
    let ninth = moving[moving.len() * 9 / 10];
    // On a machine at rest partitions pause for some 30 ms. Where they pause for longer whatever happens,
    // it is busy, and a revocation, which waits for a commit, takes longer too.
    let allowed = (1 + (medians.1 / 50).min(2)) * interval;
    eprintln!(
        "pauses in ms, with rebalances: {moving:?}, without: {resting:?}; {interval} between commits"
    );
    if medians.0 < medians.1 + allowed
        && ninth < medians.1 + interval + allowed
        && rollbacks == [0; 2]
    {
        return Ok(());
    }
    Err(format!(
        "medians of pauses in ms, of partitions that stay in a rebalance and without one: {medians:?}, \
         nine of ten up to {ninth}, with {interval} ms between commits and {rollbacks:?} rollbacks"
    ))
}

/// It was refused, and everything since the last commit was computed again by all tasks of the worker:
/// partitions that stayed paused for as long as that takes.
#[test]
fn a_commit_that_meets_the_next_generation_is_sent_again_and_nothing_is_computed_again() {
    let Some(world) = ledger::world("a_commit_that_meets") else { return };
    // Through a repartition topic, so that it sends frames too.
    let set = ["--set", "stage.ledger.key-by=account", "--set", "stage.ledger.repartition=true"];
    let file = world.path("held");
    let held =
        [("WASMILL_HOLD_AT", "before-offsets:8"), ("WASMILL_HOLD_FILE", file.to_str().unwrap())];
    let a = world.start_with("a", &set, &held);
    let feed = Feed::start(&world, 600);
    a.wait("a commit that is held", |_| file.exists());
    let before = a.try_status().unwrap();
    assert_eq!(before["workers"]["0"]["commits"]["count"], 7);
    let idler = Idler::join(&world);
    a.wait("the next generation", |_| idler.has_joined());
    std::fs::remove_file(&file).unwrap();
    a.wait("a commit that is sent again", |_| a.said().contains("which was sent again"));
    a.wait("partitions that were given up", |_| idler.has() > 0);
    let after = a.wait("another commit", |status| commits(status) > 9);
    assert_eq!(rollbacks(&after), 0, "{}", a.said());
    drop(idler);
    a.wait("all partitions", |status| {
        let worker = &status["workers"]["0"];
        worker["units"] == 12 && worker["opening"] == 0
    });
    ledger::wait_for_more(&world);
    a.kill();
    // What is in the changelogs is what was committed.
    let b = world.start("b", &set);
    ledger::wait_for_more(&world);
    let total = feed.end();
    ledger::assert_exact(&ledger::wait_for(&world, total), total);
    b.end();
}

#[test]
fn with_the_eager_strategy_an_instance_is_killed_and_another_joins_under_load() {
    let Some(world) = ledger::world("eager") else { return };
    // Through a repartition topic, so that tasks of two kinds move.
    let set = ["--set", "kafka.rebalance=eager", "--set", "stage.ledger.key-by=account"];
    let set = [&set[..], &["--set", "stage.ledger.repartition=true"]].concat();
    let [a, b] = ["a", "b"].map(|name| world.start(name, &set));
    let feed = Feed::start(&world, 600);
    let wait = |instances: &[&Instance], count: u64| {
        for instance in instances {
            instance.wait(&format!("{count} units"), |status| {
                let worker = &status["workers"]["0"];
                worker["units"] == count && worker["opening"] == 0
            });
        }
    };
    wait(&[&a, &b], 6);
    ledger::wait_for_more(&world);
    b.kill();
    let c = world.start("c", &set);
    wait(&[&a, &c], 6);
    ledger::wait_for_more(&world);
    // Back at its data directory, with state that others have gone on from.
    let b = world.start("b", &set);
    wait(&[&a, &b, &c], 4);
    ledger::wait_for_more(&world);
    a.end();
    wait(&[&b, &c], 6);
    let total = feed.end();
    ledger::assert_exact(&ledger::wait_for(&world, total), total);
}

#[test]
fn a_static_member_that_is_killed_gets_its_tasks_back_and_the_others_do_not_notice() {
    const SESSION: Duration = Duration::from_secs(45);
    let Some(world) = ledger::world("a_static_member") else { return };
    let start = |name: &str| {
        let member = format!("kafka.consumer.group.instance.id={name}");
        let session = format!("kafka.consumer.session.timeout.ms={}", SESSION.as_millis());
        world.start(name, &["--set", &member, "--set", &session])
    };
    let [a, b] = ["a", "b"].map(start);
    let feed = Feed::start(&world, 300);
    let [before, others] = [&a, &b].map(|instance| instance.wait_tasks(3));
    ledger::wait_for_more(&world);

    let killed = Instant::now();
    a.kill();
    let a = start("a");
    let after = a.wait_tasks(3);
    assert_eq!(tasks(&after), tasks(&before));
    // What went in after it was killed comes out of its tasks too.
    a.wait("records", |status| records(status) > 0);
    let total = feed.end();
    let came = ledger::wait_for(&world, total);
    let took = killed.elapsed();
    assert!(took < SESSION, "its tasks went on after {took:?}: the session was over before");
    let status = b.wait_tasks(3);
    assert_eq!(tasks(&status), tasks(&others));
    assert_eq!(rebalances(&status), rebalances(&others), "{}", b.said());
    ledger::assert_exact(&came, total);
}

/// The tasks of which there are state files in a data directory.
fn states(world: &World, data_dir: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(world.path(data_dir).join("state")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".redb").map(str::to_owned)).collect()
}

/// Looks at an instance until it has just the state of its open tasks; that is never missing.
fn wait_until_clean(world: &World, instance: &Instance, data_dir: &str, count: usize) {
    for _ in 0..20 {
        instance.wait("only the state of its tasks", |status| {
            let files = states(world, data_dir);
            let open: BTreeSet<String> = tasks(status).into_iter().collect();
            // One that was open before and is after was so in between.
            let still: BTreeSet<String> =
                tasks(&instance.try_status().unwrap()).into_iter().collect();
            let missing: Vec<_> =
                open.intersection(&still).filter(|t| !files.contains(*t)).collect();
            assert!(missing.is_empty(), "the state of {missing:?} was removed");
            open.len() == count && open == files
        });
    }
}

#[test]
fn state_of_tasks_that_have_moved_away_is_removed_and_that_of_open_tasks_never() {
    let Some(world) = ledger::world("state_of_tasks") else { return };
    let set = ["--set", "kafka.state-cleanup-delay=300ms"];
    let a = world.start("a", &set);
    let feed = Feed::start(&world, 300);
    a.wait_tasks(6);
    wait_until_clean(&world, &a, "a", 6);
    let b = world.start("b", &set);
    b.wait_tasks(3);
    wait_until_clean(&world, &a, "a", 3);
    wait_until_clean(&world, &b, "b", 3);
    b.end();
    a.wait_tasks(6);
    wait_until_clean(&world, &a, "a", 6);
    let total = feed.end();
    ledger::assert_exact(&ledger::wait_for(&world, total), total);
}

/// A commit at a revocation that failed was not followed by the answer that the group waited for: no
/// other instance got anything for as long as `max.poll.interval.ms`.
#[test]
fn a_revocation_is_answered_also_where_the_commit_before_it_fails() {
    let Some(world) = ledger::world("a_revocation") else { return };
    // Nothing is committed but when tasks are given up.
    let set = ["--set", "engine.checkpoint-interval=10m"];
    let a = world.start("a", &set);
    let mut producer = ledger::producer(&world);
    ledger::send_numbers(&mut producer, 0..600);
    a.wait("all numbers", |status| records(status) == 600);
    let admin = world.admin();
    let sent = || -> i64 { (0..PARTITIONS).map(|p| admin.offsets("out", p).unwrap().end).sum() };
    a.wait("all records at the broker", |_| sent() == 600);

    // Whoever has its name fences its producer.
    let text = std::fs::read_to_string(world.path("a/instance")).unwrap();
    let name = format!("ledger-{}-0", text.split(' ').next().unwrap());
    drop(Producer::connect(&world.settings(), &name, TIMEOUT).unwrap());
    // With this the client finds out, and the worker with what it sends next: its commit.
    ledger::send_numbers(&mut producer, 600..601);
    a.wait("a producer that knows that it is fenced", |_| a.said().contains("fenced"));
    assert_eq!(rollbacks(&a.try_status().unwrap()), 0, "{}", a.said());

    let b = world.start("b", &set);
    for instance in [&a, &b] {
        instance.wait_tasks(3);
    }
    assert_eq!(rollbacks(&a.try_status().unwrap()), 1, "no commit has failed: {}", a.said());
    // Nothing was committed, so all of it is done again.
    a.wait("all numbers once more", |a| {
        b.try_status().is_some_and(|b| records(a) + records(&b) == 601)
    });
    a.end();
    b.wait("everything", |status| tasks(status).len() == 6);
    b.end();
    ledger::assert_exact(&world.topic("out"), 601);
}

/// It waited for the brokers for as long as these were gone, whatever it was told.
#[test]
fn an_instance_that_is_told_to_end_while_no_broker_answers_ends() {
    let Some(mut world) = ledger::world("told_to_end") else { return };
    let mut instance = world.start("a", &[]);
    instance.wait_tasks(6);
    let feed = Feed::start(&world, 2_000);
    ledger::wait_for_more(&world);
    // The last of them are not committed yet.
    let total = feed.end();
    world.cluster.suspend(0).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    instance.signal("TERM");
    instance.wait_end(Duration::from_secs(60));
    world.cluster.resume(0).unwrap();
    // What it had not committed is done by the next one.
    let next = world.start("a", &[]);
    ledger::assert_exact(&ledger::wait_for(&world, total), total);
    next.end();
}
