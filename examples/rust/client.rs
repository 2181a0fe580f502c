//! Opens connections with IP_LOCAL_PORT_RANGE, so that connect() stays fast until the last port.
//!
//! build: rustc -O client.rs
//! usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]
//!
//! It prints the local address of each connection, and holds all of them until its end. The standard library sets no
//! option before connect(), so this file declares the four calls; a program that has the crate `socket2` takes its.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};
use std::os::raw::{c_int, c_void};

const AF_INET: c_int = 2;
const SOCK_STREAM_CLOEXEC: c_int = 1 | 0o2000000;
const IPPROTO_IP: c_int = 0;
const IP_BIND_ADDRESS_NO_PORT: c_int = 24;
const IP_LOCAL_PORT_RANGE: c_int = 51; // since Linux 6.3
const EADDRNOTAVAIL: i32 = 99; // asm-generic/errno.h
const ENOPROTOOPT: i32 = 92;
const WINDOW: u16 = 500;
const WINDOWS: u32 = 10;

#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, size: u32) -> c_int;
    fn bind(fd: c_int, address: *const SockaddrIn, size: u32) -> c_int;
    fn connect(fd: c_int, address: *const SockaddrIn, size: u32) -> c_int;
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn set_option(fd: &OwnedFd, name: c_int, value: u32) -> Result<c_int> {
    let at = &value as *const u32 as *const c_void;
    check(unsafe { setsockopt(fd.as_raw_fd(), IPPROTO_IP, name, at, 4) })
}

fn address_of(address: SocketAddrV4) -> SockaddrIn {
    let (port, address) = (address.port().to_be_bytes(), address.ip().octets());
    SockaddrIn { family: AF_INET as u16, port, address, zero: [0; 8] }
}

/// Whether connect() searches all ports of IP_LOCAL_PORT_RANGE alike: since Linux 6.8.
fn prefers_no_parity() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 8)
}

fn connect_once(target: SocketAddrV4, low: u16, high: u16, source: Option<Ipv4Addr>) -> Result<TcpStream> {
    let fd = unsafe { OwnedFd::from_raw_fd(check(socket(AF_INET, SOCK_STREAM_CLOEXEC, 0))?) };
    let size = std::mem::size_of::<SockaddrIn>() as u32;
    // The value is the lowest port, and the highest times 65,536.
    match set_option(&fd, IP_LOCAL_PORT_RANGE, low as u32 | (high as u32) << 16) {
        // Linux before 6.3: the ports are those of the host's setting.
        Err(error) if error.raw_os_error() != Some(ENOPROTOOPT) => return Err(error),
        _ => {}
    }
    if let Some(source) = source {
        // Without this option bind() takes a port at once, for every target: that port is lost for the others.
        set_option(&fd, IP_BIND_ADDRESS_NO_PORT, 1)?;
        check(unsafe { bind(fd.as_raw_fd(), &address_of(SocketAddrV4::new(source, 0)), size) })?;
    }
    check(unsafe { connect(fd.as_raw_fd(), &address_of(target), size) })?;
    Ok(TcpStream::from(fd))
}

/// Connect from a port of low to high.
///
/// Since Linux 6.8 the whole range is the fastest. Before, connect() first probes all ports of one parity there: a few
/// random windows are faster, and the whole range comes last, so that no free port is missed.
fn connect_from(target: SocketAddrV4, low: u16, high: u16, source: Option<Ipv4Addr>) -> Result<TcpStream> {
    if !prefers_no_parity() && high - low >= WINDOW {
        for _ in 0..WINDOWS {
            let drawn = RandomState::new().build_hasher().finish(); // seeded by the kernel
            let start = low + (drawn % (high - low - WINDOW + 2) as u64) as u16;
            match connect_once(target, start, start + WINDOW - 1, source) {
                Err(error) if error.raw_os_error() == Some(EADDRNOTAVAIL) => continue,
                made => return made,
            }
        }
    }
    connect_once(target, low, high, source)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    if words.len() < 6 {
        return Err("usage: client TARGET PORT CONNECTIONS LOW HIGH [SOURCE]".into());
    }
    let target = SocketAddrV4::new(words[1].parse()?, words[2].parse()?);
    let source = words.get(6).map(|word| word.parse()).transpose()?;
    let (low, high) = (words[4].parse()?, words[5].parse()?);
    let mut held = Vec::new();
    for _ in 0..words[3].parse::<usize>()? {
        let connection = connect_from(target, low, high, source)?;
        println!("{}", connection.local_addr()?);
        held.push(connection);
    }
    Ok(())
}
