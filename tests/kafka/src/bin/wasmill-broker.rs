//! Starts and stops the broker for trials: `wasmill-broker start` and `wasmill-broker stop`. With
//! `wasmill-broker fetch`, gets what brokers of tests are started from.
//!
//! Invariant: each order given twice in a row is no error.

use std::{env, process::ExitCode};

use wasmill_test_kafka::{Error, Standalone, folder};

/// Where clients look for Kafka by default.
const PORT: u16 = 9092;

fn main() -> ExitCode {
    let broker = Standalone::new(folder().join("data"));
    let orders: Vec<_> = env::args().skip(1).collect();
    let done = match orders.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start"] => port().and_then(|port| start(&broker, port).map_err(|e| e.to_string())),
        ["stop"] => stop(&broker).map_err(|error| error.to_string()),
        ["fetch"] => fetch().map_err(|error| error.to_string()),
        _ => Err(
            "expected: wasmill-broker start, stop or fetch. The port is 9092, or what KAFKA_PORT \
             says"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn port() -> Result<u16, String> {
    let Ok(text) = env::var("KAFKA_PORT") else { return Ok(PORT) };
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        format!("KAFKA_PORT is \"{text}\", expected a number from 1 to 65535, such as {PORT}")
    })
}

fn start(broker: &Standalone, port: u16) -> Result<(), Error> {
    let before = broker.running();
    let running = broker.start(port)?;
    let state = if before == Some(running) { "runs already" } else { "is ready" };
    println!(
        "Kafka {state}; its log is {}, and make kafka-stop ends it. In a pipeline:\n\n    \
         brokers = \"127.0.0.1:{}\"\n",
        broker.log().display(),
        running.port
    );
    if running.port != port {
        println!("To have it on port {port}, stop it first.");
    }
    Ok(())
}

/// A machine that lacks something is told what to do; its tests with a broker are left out.
fn fetch() -> Result<(), Error> {
    match wasmill_test_kafka::fetch() {
        Err(Error::Unavailable(unavailable)) => {
            println!("Tests that need a broker are left out: {unavailable}");
            Ok(())
        }
        fetched => fetched,
    }
}

fn stop(broker: &Standalone) -> Result<(), Error> {
    match broker.stop()? {
        Some(running) => println!("Kafka on port {} has ended; its data stays.", running.port),
        None => println!("Kafka does not run."),
    }
    Ok(())
}
