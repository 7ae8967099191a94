// SPDX-License-Identifier: BSD-3-Clause
//! A slow disk for one process: its fsync and fdatasync calls are held up for as long as a test wants. The kernel asks
//! this process about each of them (seccomp user notification), and the answer comes late; no other call is touched.
//! Nothing here needs a kernel module or a privilege beyond no_new_privs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;

/// The disk of one process as that process sees it. It goes with the process.
#[derive(Clone, Default)]
pub struct SlowDisk {
    delay_ms: Arc<AtomicU64>,
    delayed: Arc<AtomicU64>,
}

/// The parent's end of what a prepared process will send.
pub struct Prepared {
    disk: SlowDisk,
    socket: OwnedFd,
}

impl SlowDisk {
    /// Whether this kernel can do it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn check() -> io::Result<()> {
        let mut command = Command::new("true");
        let prepared = Self::default().prepare(&mut command)?;
        let mut child = command.spawn()?;
        let attached = prepared.attach();
        child.wait()?;
        attached
    }

    /// Every sync takes so much longer from here on.
    pub fn set(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// How many syncs were held up so far.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }

    /// Makes the process that this command starts ask about its syncs; [`Prepared::attach`] has to follow the start.
    ///
    /// # Errors
    /// As the system says.
    pub fn prepare(&self, command: &mut Command) -> io::Result<Prepared> {
        let mut ends: [RawFd; 2] = [0; 2];
        // SAFETY: socketpair(2) fills two descriptors that live in this frame.
        let made =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors are new and belong to nobody else.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        let hook = move || {
            let listener = install()?;
            send_fd(theirs.as_raw_fd(), listener)
        };
        // SAFETY: between fork and exec the hook makes system calls on memory of its own stack only.
        unsafe { command.pre_exec(hook) };
        Ok(Prepared { disk: self.clone(), socket: ours })
    }
}

impl Prepared {
    /// Answers for the process that was started, until it ends.
    ///
    /// # Errors
    /// When the process has not told which descriptor to answer on.
    pub fn attach(self) -> io::Result<()> {
        let listener = receive_fd(self.socket.as_raw_fd())?;
        std::thread::spawn(move || serve(&listener, &self.disk));
        Ok(())
    }
}

/// The filter: two calls are asked about, all others are allowed.
fn install() -> io::Result<RawFd> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let is = |number: libc::c_long, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k: number as u32,
    };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        is(libc::SYS_fsync, 1, 0),
        is(libc::SYS_fdatasync, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl with plain numbers; seccomp(2) reads the program, which lives until it returns.
    let listener = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        libc::syscall(libc::SYS_seccomp, libc::c_long::from(mode), flags, &raw const program)
    };
    if listener < 0 { Err(io::Error::last_os_error()) } else { Ok(listener as RawFd) }
}

/// Room for the control message with one descriptor, aligned as the kernel wants it.
type Control = [u64; 4];

fn message(byte: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all fields of msghdr may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (byte, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of::<Control>();
    message
}

fn send_fd(socket: RawFd, fd: RawFd) -> io::Result<()> {
    let (mut byte, mut control) = ([0u8], Control::default());
    let mut iovec = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message = message(&mut iovec, &mut control);
    let size = std::mem::size_of::<RawFd>() as u32;
    // SAFETY: the control buffer is large enough for one header with one descriptor; all lives until sendmsg returns.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        libc::sendmsg(socket, &raw const message, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_fd(socket: RawFd) -> io::Result<OwnedFd> {
    let (mut byte, mut control) = ([0u8], Control::default());
    let mut iovec = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message = message(&mut iovec, &mut control);
    // SAFETY: the buffers live until recvmsg returns; what it put into them is read only if it says so.
    unsafe {
        // The child has sent it before it became the program, or never will.
        if libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) < 0 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::other("no descriptor came"));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}

/// Lets each call go on when its time has come. Ends with the process.
fn serve(listener: &OwnedFd, disk: &SlowDisk) {
    let mut held: BTreeMap<(Instant, u64), ()> = BTreeMap::new();
    loop {
        let now = Instant::now();
        while let Some(entry) = held.first_entry().filter(|entry| entry.key().0 <= now) {
            let id = entry.remove_entry().0.1;
            let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
            answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
            // SAFETY: the answer lives until the call returns. It fails when the caller has died, which is well.
            unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND as _, &raw mut answer) };
        }
        let wait_ms = held.keys().next().map_or(-1, |(at, _)| at.saturating_duration_since(now).as_millis() as i32 + 1);
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives here.
        let ready = unsafe { libc::poll(&raw mut poll, 1, wait_ms) };
        if ready > 0 && poll.revents & libc::POLLIN == 0 {
            return;
        }
        if ready > 0 {
            // SAFETY: all fields may be zero, as the kernel demands; it lives until the call returns.
            let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV as _, &raw mut asked) } == 0 {
                let delay = Duration::from_millis(disk.delay_ms.load(Ordering::Relaxed));
                if !delay.is_zero() {
                    disk.delayed.fetch_add(1, Ordering::Relaxed);
                }
                held.insert((Instant::now() + delay, asked.id), ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_of_a_process_are_held_up_and_nothing_else() {
        let file = crate::node::temp_dir("sync").join("file");
        let run = |disk: &SlowDisk| {
            let mut command = Command::new("dd");
            command.args(["if=/dev/zero", "bs=1", "count=1", "conv=fsync", "status=none"]);
            command.arg(format!("of={}", file.display()));
            let prepared = disk.prepare(&mut command).expect("a socket");
            let start = Instant::now();
            let mut child = command.spawn().expect("dd");
            prepared.attach().expect("the filter");
            assert!(child.wait().expect("dd").success());
            start.elapsed()
        };
        let disk = SlowDisk::default();
        run(&disk);
        assert_eq!(disk.delayed(), 0);
        disk.set(Duration::from_millis(300));
        assert!(run(&disk) >= Duration::from_millis(300));
        assert_eq!(disk.delayed(), 1);
        std::fs::remove_dir_all(file.parent().expect("a folder")).expect("it is there");
    }
}
