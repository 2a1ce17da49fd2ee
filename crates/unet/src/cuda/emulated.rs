//! A [`Machine`] made of a CPU: a child process (`host.cpp`) with memory of its own, which runs the kernels as they are and convolves by definition.

use super::machine::{Argument, Convolution, Geometry, Kernel, Machine, View};
use crate::init::lock;
use crate::{Precision, Result};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda");

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// Whether there is a C++20 compiler whose programs run with these flags; it says so where there is none.
pub(super) fn works(flags: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe");
    let mut command = Command::new(compiler());
    command.args(["-std=c++20", "-pthread", "-x", "c++", "-"]).args(flags).arg("-o").arg(&path);
    let source = b"#include <barrier>\nint main() { std::barrier<> b(1); b.arrive_and_wait(); }\n";
    let built = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().is_ok_and(|mut child| {
        let told = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(source).is_ok());
        told && child.wait().is_ok_and(|status| status.success())
    });
    let runs = built && Command::new(&path).output().is_ok_and(|output| output.status.success());
    if !runs {
        // Not `eprintln!`, which a test keeps to itself when it passes.
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "!! NOT CHECKED: no C++20 compiler here whose programs run with {flags:?}");
    }
    runs
}

/// The program for one precision, built with these flags.
pub(super) struct Program {
    precision: Precision,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Program {
    pub(super) fn build(precision: Precision, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        let output = Command::new(compiler())
            .args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-pthread"])
            .args([
                "-Wno-unused-function",
                "-Wno-clobbered",
                "-Wno-unknown-warning-option",
                "-fno-strict-aliasing",
            ])
            .arg(format!("-DBF16={}", u8::from(precision == Precision::Bf16)))
            .args(flags)
            .arg(Path::new(SOURCES).join("host.cpp"))
            .arg("-o")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { precision, path, _folder: folder }
    }

    /// A device on which blocks whose threads do not wait for each other have `threads` real ones.
    pub(super) fn start(&self, threads: usize) -> Arc<Emulated> {
        let mut command = Command::new(&self.path);
        command.arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take(), child.stdout.take().unwrap());
        let link = Arc::new(Mutex::new(Link { child, to, from: BufReader::new(from) }));
        Arc::new(Emulated { precision: self.precision, link, allocated: AtomicUsize::new(0) })
    }
}

struct Link {
    child: Child,
    /// There until the end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Link {
    fn send(&mut self, words: &[u64], bytes: &[u8]) {
        let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        message.extend_from_slice(bytes);
        self.to.as_mut().unwrap().write_all(&message).expect("the device stopped; see what it wrote above");
    }

    fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.from.read_exact(&mut bytes).expect("the device stopped; see what it wrote above");
        bytes
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.to = None;
        let status = self.child.wait();
        if !std::thread::panicking() {
            assert!(status.unwrap().success(), "the device failed; see what it wrote above");
        }
    }
}

pub(super) struct Emulated {
    precision: Precision,
    link: Arc<Mutex<Link>>,
    /// Pieces of memory so far.
    pub(super) allocated: AtomicUsize,
}

pub(super) struct Memory {
    address: u64,
    link: Arc<Mutex<Link>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            lock(&self.link).send(&[1, self.address], &[]);
        }
    }
}

/// Memory and its size.
pub(super) struct Piece {
    memory: Memory,
    bytes: usize,
}

impl Piece {
    pub(super) fn view(&self) -> View {
        View { address: self.memory.address, bytes: self.bytes }
    }
}

impl Emulated {
    pub(super) fn room(&self, bytes: usize) -> Piece {
        Piece { memory: self.allocate(bytes).unwrap(), bytes }
    }

    pub(super) fn upload(&self, bytes: &[u8]) -> Piece {
        let piece = self.room(bytes.len());
        lock(&self.link).send(&[2, piece.memory.address, bytes.len() as u64], bytes);
        piece
    }

    pub(super) fn upload_f32(&self, values: &[f32]) -> Piece {
        self.upload(&values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>())
    }

    pub(super) fn download(&self, view: View) -> Vec<u8> {
        let mut link = lock(&self.link);
        link.send(&[3, view.address, view.bytes as u64], &[]);
        link.receive(view.bytes)
    }

    pub(super) fn download_f32(&self, view: View) -> Vec<f32> {
        self.download(view).as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }
}

impl Machine for Emulated {
    type Memory = Memory;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        self.allocated.fetch_add(1, Ordering::Relaxed);
        let mut link = lock(&self.link);
        link.send(&[0, bytes as u64], &[]);
        let address = u64::from_ne_bytes(link.receive(8).try_into().unwrap());
        Ok(Memory { address, link: Arc::clone(&self.link) })
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.address
    }

    fn copy(&self, from: View, to: View) -> Result<()> {
        assert_eq!(from.bytes, to.bytes);
        lock(&self.link).send(&[6, to.address, from.address, from.bytes as u64], &[]);
        Ok(())
    }

    unsafe fn launch(&self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<()> {
        let index = Kernel::ALL.iter().position(|k| *k == kernel).unwrap();
        let mut words = vec![4, index as u64];
        words.extend(grid.map(|n| n as u64));
        words.push(arguments.len() as u64);
        words.extend(arguments.iter().map(|argument| match *argument {
            Argument::Address(value) => value,
            Argument::Count(value) => value.into(),
            Argument::Float(value) => value.to_bits().into(),
            Argument::Double(value) => value.to_bits(),
        }));
        lock(&self.link).send(&words, &[]);
        Ok(())
    }

    unsafe fn convolve(&self, kind: Convolution, g: Geometry, x: View, w: View, y: View) -> Result<()> {
        let shape = [g.images, g.rows, g.columns, g.inputs, g.outputs].map(|n| n as u64);
        let kind = match kind {
            Convolution::Forward => 0,
            Convolution::Data => 1,
            Convolution::Weight => 2,
        };
        let mut words = vec![5, kind];
        words.extend(shape);
        words.extend([x, w, y].map(|view| view.address));
        lock(&self.link).send(&words, &[]);
        Ok(())
    }
}
