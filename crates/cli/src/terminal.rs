//! Progress on stderr: bars on a terminal, a plain line every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scribseg_pipeline::Progress;

/// Between two plain lines of one piece of work.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells a person on stderr where the work is.
pub(crate) struct Terminal {
    quiet: bool,
    verbose: bool,
    bars: bool,
    colours: bool,
    work: Mutex<Option<Work>>,
    /// The stage under way and when it began.
    stage: Mutex<Option<(String, Instant)>>,
}

/// How a piece of text looks where colours are welcome.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    /// Bold.
    Heading,
    /// Bold and red.
    Error,
}

impl Look {
    /// The text, looking so if `colours` are welcome.
    pub(crate) fn of(self, text: &str, colours: bool) -> String {
        let code = match self {
            Self::Heading => "1",
            Self::Error => "1;31",
        };
        if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether stderr wants colours: it is a terminal that knows them, and nobody has set `NO_COLOR` (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    welcome(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref())
}

fn welcome(terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    terminal && !dumb() && no_color.is_none_or(|value| value.is_empty())
}

fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The countable work under way.
struct Work {
    what: String,
    total: u64,
    done: u64,
    /// When the first step was reported, and which: a resumed stage does not start at 0.
    first: Option<(Instant, u64)>,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        let bars = std::io::stderr().is_terminal() && !dumb();
        let (work, stage) = (Mutex::new(None), Mutex::new(None));
        Self { quiet, verbose, bars, colours: colours(), work, stage }
    }

    /// Who asked for more learns what the stage under way took.
    fn end_stage(&self) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((name, begun)) = stage {
            self.detail(&format!("{name}: {:.1} s", begun.elapsed().as_secs_f64()));
        }
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(work: &Option<Work>, line: &str) {
        // If stderr is closed there is no one to tell.
        let write = || drop(writeln!(std::io::stderr(), "{line}"));
        match work.as_ref().and_then(|w| w.bar.as_ref()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Progress for Terminal {
    fn stage(&self, name: &str, detail: &str) {
        if !self.quiet {
            self.end_stage();
            let heading = Look::Heading.of(&format!("== {name}"), self.colours);
            let line = if detail.is_empty() { heading } else { format!("{heading}: {detail}") };
            Self::say(&self.work(), &line);
            *self.stage.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((name.to_owned(), Instant::now()));
        }
    }

    fn begin(&self, what: &str, total: u64) {
        if self.quiet {
            return;
        }
        let bar = self.bars.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.with_prefix(what.to_owned())
        });
        let said = Instant::now();
        *self.work() = Some(Work { what: what.to_owned(), total, done: 0, first: None, said, bar });
    }

    fn advance(&self, done: u64, message: &str) {
        let mut guard = self.work();
        let Some(work) = guard.as_mut() else { return };
        let now = Instant::now();
        // Cases report from several threads, so a smaller count may come late.
        work.done = work.done.max(done);
        let first = *work.first.get_or_insert((now, work.done));
        let rest = rest(now - first.0, first.1, work.done, work.total);
        let message = [message, &rest].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ");
        if let Some(bar) = &work.bar {
            bar.set_position(work.done);
            bar.set_message(message);
        } else if now - work.said >= PAUSE || (work.done >= work.total && now - first.0 >= PAUSE) {
            work.said = now;
            let line = format!("{} {}/{} {message}", work.what, work.done, work.total);
            Self::say(&guard, &line);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.work().take().and_then(|work| work.bar) {
            bar.finish_and_clear();
        }
    }

    fn log(&self, line: &str) {
        Self::say(&self.work(), line);
    }

    fn detail(&self, line: &str) {
        if self.verbose {
            Self::say(&self.work(), &format!("   {line}"));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_stage();
    }
}

/// Rate and time left, once there is something to tell from.
fn rest(since: Duration, from: u64, done: u64, total: u64) -> String {
    let (steps, seconds) = (done.saturating_sub(from) as f64, since.as_secs_f64());
    if steps < 1.0 || seconds <= 0.0 {
        return String::new();
    }
    let rate = steps / seconds;
    let speed = if rate >= 1.0 { format!("{rate:.1}/s") } else { format!("{:.1} s each", 1.0 / rate) };
    let left = total.saturating_sub(done) as f64 / rate;
    if left < 0.5 { speed } else { format!("{speed}, {} left", span(left)) }
}

/// A span of time in the largest two units.
pub(crate) fn span(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_count_from_where_a_resumed_stage_began() {
        assert_eq!(rest(Duration::from_secs(10), 501, 521, 621), "2.0/s, 50 s left");
        assert_eq!(rest(Duration::from_secs(10), 1, 3, 3), "5.0 s each");
        assert_eq!(rest(Duration::ZERO, 1, 1, 9), "");
        assert_eq!(rest(Duration::from_secs(3), 4, 4, 9), "");
    }

    #[test]
    fn colours_are_for_terminals_whose_user_did_not_decline() {
        let set = |value: &'static str| Some(std::ffi::OsStr::new(value));
        assert!(!welcome(false, None) && !welcome(true, set("1")));
        assert_eq!([welcome(true, None), welcome(true, set(""))], [!dumb(); 2]);
        assert_eq!(Look::Error.of("error:", false), "error:");
        assert_eq!(Look::Heading.of("x", true), "\x1b[1mx\x1b[0m");
    }

    #[test]
    fn spans_have_two_units() {
        assert_eq!([5.0, 65.0, 7260.0, 90_000.0].map(span), ["5 s", "1 min 5 s", "2 h 1 min", "1 d 1 h"]);
    }
}
