//! Breaks lines. Invariant: no broken line can be read as a line of a combined log.

use crate::random::Random;

/// Breaks a line of a combined log in one of the ways that happen in the field.
pub fn spoil(line: &mut Vec<u8>, random: &mut Random) {
    // The first bracket opens the time, and no address or user has one.
    let time = position(line, b'[').expect("the line has a time");
    let request = position(line, b'"').expect("the line has a request");
    match random.below(5) {
        // Cut off while it was written.
        0 => line.truncate(1 + random.below(request as u32) as usize),
        // Another program wrote to the same file.
        1 => {
            line.clear();
            line.extend_from_slice(b"Segmentation fault (core dumped)");
        }
        // No day of the calendar.
        2 => line[time + 1..time + 7].copy_from_slice(b"31/Feb"),
        // Bytes overwritten, as after a crash of the file system.
        3 => {
            let end = (time + 30).min(line.len());
            for b in &mut line[..end] {
                *b = random.next() as u8 | 0x80;
            }
        }
        // A variable that was never filled in.
        _ => {
            let status = request
                + 1
                + position(&line[request + 1..], b'"').expect("the request has an end")
                + 2;
            line.splice(status..status + 3, *b"${status}");
        }
    }
}

fn position(line: &[u8], byte: u8) -> Option<usize> {
    line.iter().position(|b| *b == byte)
}
