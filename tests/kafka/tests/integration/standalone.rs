//! The broker for trials.

use std::net::{Ipv4Addr, TcpListener};

use wasmill_test_kafka::{Error, Standalone, cluster_or_skip};

use crate::{read, write};

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_broker_for_trials_keeps_its_data_and_takes_each_order_twice() {
    let test = "a_broker_for_trials_keeps_its_data_and_takes_each_order_twice";
    let Some(_available) = cluster_or_skip(test, 1) else { return };
    let folder = tempfile::tempdir_in(wasmill_test_kafka::folder()).unwrap();
    let broker = Standalone::new(folder.path());
    assert_eq!(broker.stop().unwrap(), None);

    let first = broker.start(free_port()).unwrap();
    let stopping = Stopping(&broker);
    assert_eq!(broker.running(), Some(first));
    assert_eq!(broker.start(free_port()).unwrap(), first);
    write(&format!("127.0.0.1:{}", first.port), "kept");
    assert_eq!(broker.stop().unwrap(), Some(first));
    assert_eq!(broker.stop().unwrap(), None);

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(matches!(broker.start(port), Err(Error::Port { port: found }) if found == port));
    let second = broker.start(free_port()).unwrap();
    assert_eq!(read(&format!("127.0.0.1:{}", second.port), 1), ["kept"]);
    drop(stopping);
    assert_eq!(broker.running(), None);
}

/// Ends the broker also where the test fails.
struct Stopping<'a>(&'a Standalone);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop().unwrap();
    }
}
