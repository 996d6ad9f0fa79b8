//! The barest thing that could stand in the daemon's place: what the same hops cost without any parsing. One thread, one
//! epoll loop, one read and one write a hop. `loadgen compare` measures the daemon against it.
//!
//! `baseline relay N`: N routers on `out`, N callers on `in`; caller i is paired with router i.
//! `baseline fanout N`: one source on `in`, N watchers on `out`; every chunk read is written to each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const CHUNK_BYTES: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count = args.get(1).and_then(|count| count.parse::<usize>().ok()).filter(|count| *count > 0);
    match (args.first().map(String::as_str), count) {
        (Some("relay"), Some(count)) => relay(count),
        (Some("fanout"), Some(count)) => fanout(count),
        _ => {
            eprintln!("usage: baseline relay|fanout N");
            std::process::exit(2);
        }
    }
}

/// Listens on two free ports, says so, and waits for all peers: first those on `out`.
fn accept(ins: usize, outs: usize) -> io::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let (near, far) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    println!("ready in={} out={}", near.local_addr()?, far.local_addr()?);
    io::stdout().flush()?;
    let take = |listener: &TcpListener, count: usize| {
        (0..count)
            .map(|_| {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(TcpStream::from_std(stream))
            })
            .collect::<io::Result<Vec<_>>>()
    };
    let outs = take(&far, outs)?;
    Ok((take(&near, ins)?, outs))
}

fn relay(count: usize) -> io::Result<()> {
    let (callers, routers) = accept(count, count)?;
    // Even tokens are callers, odd ones their routers: the other side is one bit away.
    let mut streams: Vec<TcpStream> =
        callers.into_iter().zip(routers).flat_map(|pair| [pair.0, pair.1]).collect();
    serve(&mut streams, |streams, index, bytes| send(&mut streams[index ^ 1], bytes))
}

fn fanout(count: usize) -> io::Result<()> {
    let (mut streams, mut watchers) = accept(1, count)?;
    serve(&mut streams, |_, _, bytes| watchers.iter_mut().try_for_each(|watcher| send(watcher, bytes)))
}

fn serve(
    streams: &mut [TcpStream],
    mut pass_on: impl FnMut(&mut [TcpStream], usize, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (index, stream) in streams.iter_mut().enumerate() {
        poll.registry().register(stream, Token(index), Interest::READABLE)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let index = event.token().0;
            loop {
                match streams[index].read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(count) => {
                        pass_on(streams, index, &chunk[..count])?;
                        // A short read has emptied the socket; the next bytes bring an event of their own.
                        if count < CHUNK_BYTES {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// One write. A peer that does not take it all is too slow for a measurement: that ends it.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let written = stream.write(bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::Error::other("a peer took only a part")) }
}
