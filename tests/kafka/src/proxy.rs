//! A proxy for TCP on loopback whose connections can be cut and mended.
//!
//! Invariant: after [`Proxy::cut`] returns, no byte that a proxy had not sent on by then arrives
//! before [`Proxy::heal`], and with [`Cut::Refuse`] none of the connections cut ever carries one.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// The most that is under way in each direction of a connection, besides the system's own buffers.
const BUFFER_BYTES: usize = 64 * 1024;

/// How a way is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// Connections end, and new ones end at once: as where a host is up and its program is not.
    Refuse,
    /// Connections stay and nothing arrives: as where a cable is out, or a firewall drops packets.
    /// What was under way arrives when the way is mended.
    Blackhole,
}

/// A proxy to one port of this machine. It ends with its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`, where nothing need listen yet.
    ///
    /// # Errors
    /// Where the system gives no port.
    pub fn start(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let way = Arc::new(Way::default());
        let accepting = Arc::clone(&way);
        let acceptor = thread::Builder::new()
            .name(format!("proxy to {target}"))
            .spawn(move || accept(&listener, target, &accepting))?;
        Ok(Self { port, way, acceptor: Some(acceptor) })
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the way, at once and in both directions. A later cut replaces an earlier one.
    pub fn cut(&self, cut: Cut) {
        let mut state = self.way.lock();
        state.cut = Some(cut);
        if cut == Cut::Refuse {
            state.end_connections();
        }
        self.way.changed.notify_all();
    }

    /// Mends the way.
    pub fn heal(&self) {
        self.way.lock().cut = None;
        self.way.changed.notify_all();
    }

    /// The number of connections that are open, those that nothing arrives on among them.
    pub fn connections(&self) -> usize {
        self.way.lock().open.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.way.lock();
            state.ended = true;
            state.end_connections();
        }
        self.way.changed.notify_all();
        // The acceptor sees the end at its next connection, which is this one.
        if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            // A panic of it has been printed.
            let _ = acceptor.join();
        }
    }
}

/// What all connections of a proxy share.
#[derive(Debug, Default)]
struct Way {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cut: Option<Cut>,
    ended: bool,
    next: u64,
    /// Both ends of each connection.
    open: Vec<(u64, TcpStream, TcpStream)>,
}

impl State {
    fn end_connections(&mut self) {
        for (_, client, server) in self.open.drain(..) {
            end(&client, &server);
        }
    }
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing arrives; then the state, in which the connection may be gone.
    fn passable(&self) -> MutexGuard<'_, State> {
        let blocked = |state: &mut State| !state.ended && state.cut == Some(Cut::Blackhole);
        self.changed.wait_while(self.lock(), blocked).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection into account, unless the way is cut.
    fn open(&self, client: &TcpStream, server: &TcpStream) -> io::Result<Option<u64>> {
        let mut state = self.lock();
        if state.ended || state.cut == Some(Cut::Refuse) {
            return Ok(None);
        }
        let number = state.next;
        state.next += 1;
        state.open.push((number, client.try_clone()?, server.try_clone()?));
        Ok(Some(number))
    }
}

fn accept(listener: &TcpListener, target: u16, way: &Arc<Way>) {
    for client in listener.incoming() {
        if way.lock().ended {
            return;
        }
        // One that fails is as good as one that was cut.
        let _ = client.and_then(|client| connect(client, target, way));
    }
}

/// Joins a connection with one to the target.
fn connect(client: TcpStream, target: u16, way: &Arc<Way>) -> io::Result<()> {
    // On loopback this succeeds or fails at once, even where the target is suspended.
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let Some(number) = way.open(&client, &server)? else { return Ok(()) };
    let ends = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (from, to) in ends {
        let way = Arc::clone(way);
        thread::spawn(move || {
            // Either end may go at any time.
            let _ = pump(&from, &to, number, &way);
            // An end is news too, which a cut way does not carry.
            let mut state = way.passable();
            state.open.retain(|(open, ..)| *open != number);
            end(&from, &to);
        });
    }
    Ok(())
}

/// Carries bytes in one direction until one end is gone.
fn pump(mut from: &TcpStream, mut to: &TcpStream, number: u64, way: &Way) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let open = way.passable().open.iter().any(|(open, ..)| *open == number);
        if !open {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
    }
}

fn end(client: &TcpStream, server: &TcpStream) {
    // One that is gone already is as it should be.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that sends back what it gets, and a proxy to it.
    fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        Proxy::start(port).unwrap()
    }

    fn connection(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap()
    }

    fn answer(stream: &mut TcpStream) -> io::Result<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn what_is_sent_arrives() {
        let proxy = echo();
        let mut stream = connection(&proxy);
        stream.write_all(b"a").unwrap();
        assert_eq!(answer(&mut stream).unwrap(), b'a');
        assert_eq!(proxy.connections(), 1);
    }

    #[test]
    fn a_refusing_cut_ends_connections_and_new_ones_until_it_is_mended() {
        let proxy = echo();
        let mut old = connection(&proxy);
        old.write_all(b"a").unwrap();
        answer(&mut old).unwrap();
        proxy.cut(Cut::Refuse);
        assert!(answer(&mut old).is_err());
        assert!(answer(&mut connection(&proxy)).is_err());
        proxy.heal();
        let mut new = connection(&proxy);
        new.write_all(b"b").unwrap();
        assert_eq!(answer(&mut new).unwrap(), b'b');
        assert!(answer(&mut old).is_err());
    }

    #[test]
    fn a_black_hole_holds_what_is_sent_until_it_is_mended() {
        let proxy = echo();
        let mut old = connection(&proxy);
        old.write_all(b"a").unwrap();
        answer(&mut old).unwrap();
        proxy.cut(Cut::Blackhole);
        let mut new = connection(&proxy);
        for (stream, byte) in [(&mut old, b"b"), (&mut new, b"c")] {
            stream.write_all(byte).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let error = answer(stream).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            stream.set_read_timeout(None).unwrap();
        }
        proxy.heal();
        assert_eq!(answer(&mut old).unwrap(), b'b');
        assert_eq!(answer(&mut new).unwrap(), b'c');
    }

    #[test]
    fn a_black_hole_that_turns_into_a_refusal_ends_what_it_held() {
        let proxy = echo();
        let mut stream = connection(&proxy);
        stream.write_all(b"a").unwrap();
        answer(&mut stream).unwrap();
        proxy.cut(Cut::Blackhole);
        stream.write_all(b"b").unwrap();
        proxy.cut(Cut::Refuse);
        assert!(answer(&mut stream).is_err());
    }

    #[test]
    fn a_client_that_leaves_is_forgotten() {
        let proxy = echo();
        let mut stream = connection(&proxy);
        stream.write_all(b"a").unwrap();
        answer(&mut stream).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(answer(&mut stream).is_err(), "the other end leaves too");
        drop(stream);
        while proxy.connections() > 0 {
            thread::yield_now();
        }
    }
}
