//! Asks a broker who the members of its cluster are: how a client learns that it is ready.
//!
//! Invariant: a broker that is listed is registered and not fenced; one that answers serves requests.
//!
//! The request is Metadata in version 1, as in the protocol guide
//! (<https://kafka.apache.org/protocol.html#The_Messages_Metadata>), for no topic.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// An answer is some 30 bytes for each broker; a longer one is not from Kafka.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// A broker that is up answers within milliseconds; one that is not there yet is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

const METADATA: i16 = 3;
const VERSION: i16 = 1;
const CORRELATION: i32 = 1;

/// Who is in the cluster, as one broker sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Members {
    /// The ids of the brokers that are not fenced, ascending.
    pub(crate) brokers: Vec<i32>,
    /// The broker that takes orders for the controller; none while there is no controller.
    pub(crate) controller: Option<i32>,
}

impl Members {
    /// Asks the broker that listens on a port of this machine.
    ///
    /// # Errors
    /// When nothing listens, no answer comes, or it is not the one expected.
    pub(crate) fn ask(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&request())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_MAX_BYTES {
            return Err(invalid(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Self::decode(&answer)
    }

    fn decode(answer: &[u8]) -> io::Result<Self> {
        let mut left = Cursor(answer);
        let correlation = left.i32()?;
        if correlation != CORRELATION {
            return Err(invalid(format!("an answer to request {correlation}, not {CORRELATION}")));
        }
        let count = left.i32()?;
        let mut brokers = Vec::new();
        for _ in 0..count {
            brokers.push(left.i32()?);
            left.text()?; // host
            left.i32()?; // port
            left.text()?; // rack
        }
        brokers.sort_unstable();
        let controller = left.i32()?;
        Ok(Self { brokers, controller: (controller >= 0).then_some(controller) })
    }
}

fn request() -> Vec<u8> {
    let client = b"wasmill-test";
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((client.len() as i16).to_be_bytes());
    body.extend(client);
    body.extend(0_i32.to_be_bytes()); // no topic
    let mut request = (body.len() as i32).to_be_bytes().to_vec();
    request.extend(body);
    request
}

/// What is left of an answer.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, left) =
            self.0.split_at_checked(count).ok_or_else(|| invalid("an answer cut short".into()))?;
        self.0 = left;
        Ok(taken)
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    /// Steps over a text, which may be absent (length -1).
    fn text(&mut self) -> io::Result<()> {
        let length = i16::from_be_bytes(self.take(2)?.try_into().expect("two bytes were taken"));
        self.take(usize::try_from(length).unwrap_or(0)).map(drop)
    }
}

fn invalid(found: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("found {found}: is it a Kafka broker?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(brokers: &[i32], controller: i32) -> Vec<u8> {
        let mut answer = CORRELATION.to_be_bytes().to_vec();
        answer.extend((brokers.len() as i32).to_be_bytes());
        for broker in brokers {
            answer.extend(broker.to_be_bytes());
            answer.extend(9_i16.to_be_bytes());
            answer.extend(b"127.0.0.1");
            answer.extend(9092_i32.to_be_bytes());
            answer.extend((-1_i16).to_be_bytes());
        }
        answer.extend(controller.to_be_bytes());
        answer.extend(0_i32.to_be_bytes());
        answer
    }

    #[test]
    fn an_answer_is_read_as_the_broker_wrote_it() {
        let members = Members::decode(&answer(&[3, 1], 3)).unwrap();
        assert_eq!(members, Members { brokers: vec![1, 3], controller: Some(3) });
        assert_eq!(Members::decode(&answer(&[], -1)).unwrap().controller, None);
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error_and_no_panic() {
        let whole = answer(&[1, 2], 1);
        let topics = 4;
        for length in 0..whole.len() - topics {
            assert!(Members::decode(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
