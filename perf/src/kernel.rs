//! What the kernel keeps for TCP connections, as it accounts it: of the whole machine.

use std::{collections::HashMap, fs, io};

/// Caches of objects that a TCP socket, its descriptor and its place in epoll are made of.
const CACHES: [&str; 10] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
    "skbuff_head_cache",
    "skbuff_small_head",
];
const INODES: &str = "sock_inode_cache";
/// Each socket has a name in it, and so has each file: counted as often as there are inodes.
const NAMES: &str = "dentry";
const PAGE_BYTES: u64 = 4096;

/// What a figure of it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The objects of sockets alone (`/proc/slabinfo`, which only root may read).
    Sockets,
    /// All that the kernel keeps (`/proc/meminfo`): what other programs do is in it.
    All,
}

/// Bytes for all connections of the machine, both of their ends if both are here; what their buffers
/// hold included.
pub(crate) fn connection_bytes() -> io::Result<(u64, Source)> {
    let buffers = buffer_bytes(&fs::read_to_string("/proc/net/sockstat")?)?;
    if let Ok(text) = fs::read_to_string("/proc/slabinfo") {
        return Ok((object_bytes(&text)? + buffers, Source::Sockets));
    }
    Ok((slab_bytes(&fs::read_to_string("/proc/meminfo")?)? + buffers, Source::All))
}

fn unexpected(file: &str) -> io::Error {
    io::Error::other(format!("unexpected form of {file}"))
}

/// The pages that TCP has for buffers.
fn buffer_bytes(sockstat: &str) -> io::Result<u64> {
    let mem = |line: &str| {
        let words: Vec<_> = line.strip_prefix("TCP:")?.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mem")?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    let pages = sockstat.lines().find_map(mem).ok_or_else(|| unexpected("/proc/net/sockstat"))?;
    Ok(pages * PAGE_BYTES)
}

fn slab_bytes(meminfo: &str) -> io::Result<u64> {
    let kibibytes = meminfo.lines().find_map(|line| {
        line.strip_prefix("Slab:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    kibibytes.map(|kibibytes| kibibytes << 10).ok_or_else(|| unexpected("/proc/meminfo"))
}

/// Of each cache, the objects in use, and what one takes with its part of what is left over.
fn object_bytes(slabinfo: &str) -> io::Result<u64> {
    let caches: HashMap<_, _> = slabinfo.lines().filter_map(parse_cache).collect();
    let inodes = caches.get(INODES).ok_or_else(|| unexpected("/proc/slabinfo"))?.0;
    let name_bytes = caches.get(NAMES).ok_or_else(|| unexpected("/proc/slabinfo"))?.1;
    let bytes = CACHES.iter().filter_map(|name| caches.get(name)).map(|(count, each)| count * each);
    Ok(bytes.sum::<u64>() + inodes * name_bytes)
}

/// The name of a cache, its objects in use, and bytes for each.
fn parse_cache(line: &str) -> Option<(&str, (u64, u64))> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let [active, _, _, per_slab, pages] = *numbers else { return None };
    Some((name, (active, (pages * PAGE_BYTES).checked_div(per_slab)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_and_slabs_are_read_in_bytes() {
        let sockstat = "sockets: used 160\nTCP: inuse 9 orphan 2 tw 5 alloc 9 mem 3\nUDP: mem 7\n";
        assert_eq!(buffer_bytes(sockstat).unwrap(), 3 * 4096);
        assert!(buffer_bytes("UDP: inuse 0 mem 1\n").is_err());
        assert_eq!(slab_bytes("MemFree: 1 kB\nSlab:   12 kB\n").unwrap(), 12 << 10);
        assert!(slab_bytes("Slab: many\n").is_err());
    }

    #[test]
    fn objects_of_sockets_are_counted_with_their_part_of_a_slab() {
        let slabinfo = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
            TCP 177 221 2368 13 8 : tunables 0 0 0 : slabdata 17 17 0\n\
            sock_inode_cache 312 418 832 19 4 : tunables 0 0 0\n\
            dentry 651417 651525 192 21 1 : tunables 0 0 0\n\
            vm_area_struct 1000 1000 1000 4 1 : tunables 0 0 0\n";
        let expected = 177 * (8 * 4096 / 13) + 312 * (4 * 4096 / 19) + 312 * (4096 / 21);
        assert_eq!(object_bytes(slabinfo).unwrap(), expected);
        assert!(object_bytes("slabinfo - version: 2.1\n").is_err());
    }

    #[test]
    fn open_connections_take_memory_of_the_kernel() {
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Other programs may close theirs meanwhile, but not each time.
        let has_grown = (0..10).any(|_| {
            let before = connection_bytes().unwrap().0;
            let pairs: Vec<_> = (0..2000)
                .map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap()))
                .collect();
            connection_bytes().unwrap().0 > before + pairs.len() as u64 * 2000
        });
        assert!(has_grown);
    }
}
