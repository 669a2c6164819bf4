//! Which of the sockets that share a port take new connections.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::Listener;

/// Where `BPF_LD` finds a random number instead of a packet's bytes (linux/filter.h: SKF_AD_OFF + SKF_AD_RANDOM).
const RANDOM: u32 = 0xffff_f000 + 56;
/// Most sockets a program can choose among: it takes two instructions for each, and the kernel takes
/// 4,096 in all (BPF_MAXINSNS).
const TAKERS_MAX: usize = 2000;

impl Listener {
    /// From now on only the sockets numbered `takers` take new connections, chosen at random among them.
    /// The number is the order in which the sockets of the address began to listen, from 0. Without a
    /// call the kernel spreads connections over all of them.
    ///
    /// # Errors
    /// The socket does not share its port, or there are no takers or more than 2,000.
    pub fn steer(&self, takers: &[u16]) -> io::Result<()> {
        if takers.is_empty() || takers.len() > TAKERS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        attach(self, &program(takers))
    }
}

/// A classic BPF program (linux/filter.h) that returns one of `takers`.
fn program(takers: &[u16]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, jump_if_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_if_false,
        k,
    };
    let mut program = vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, RANDOM),
        instruction(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            0,
            takers.len() as u32,
        ),
    ];
    for (number, taker) in takers.iter().enumerate() {
        let is_number = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(instruction(is_number, 1, number as u32));
        program.push(instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            u32::from(*taker),
        ));
    }
    // The remainder is one of the numbers, but the kernel wants an end on every path.
    program.push(instruction(
        libc::BPF_RET | libc::BPF_K,
        0,
        u32::from(takers[0]),
    ));
    program
}

fn attach(socket: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let argument = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the argument and the program it points to outlive the call, the lengths are theirs, and
    // the kernel copies the program without writing to it. No crate in use has a safe call for this option.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(&argument).cast(),
            size_of_val(&argument) as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::super::listener::tests::OPTIONS;
    use super::*;
    use crate::net::build_runtime;

    fn accepted(listener: &Listener) -> usize {
        std::iter::from_fn(|| listener.try_accept().ok()).count()
    }

    #[test]
    fn only_takers_take_connections() {
        const CONNECTIONS: usize = 60;
        build_runtime().unwrap().block_on(async {
            let first = Listener::bind("127.0.0.1:0".parse().unwrap(), &OPTIONS).unwrap();
            let address = first.local_addr().unwrap();
            let mut listeners = vec![first];
            for _ in 0..3 {
                listeners.push(Listener::bind(address, &OPTIONS).unwrap());
            }
            for takers in [&[2][..], &[1, 3], &[0]] {
                // Whichever socket is told, it is for all that share the port.
                listeners[3].steer(takers).unwrap();
                let clients: Vec<_> = (0..CONNECTIONS)
                    .map(|_| TcpStream::connect(address).unwrap())
                    .collect();
                let counts: Vec<usize> = listeners.iter().map(accepted).collect();
                assert_eq!(counts.iter().sum::<usize>(), clients.len());
                for (number, count) in counts.iter().enumerate() {
                    let takes = takers.contains(&(number as u16));
                    assert_eq!(*count > 0, takes, "{takers:?}: {counts:?}");
                }
            }
            assert!(listeners[0].steer(&[]).is_err());
        });
    }
}
