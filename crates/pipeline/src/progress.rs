//! How long work tells a person where it is.

/// Receives what a run has to say; the command line draws bars with it, tests ignore it.
///
/// Stages do not nest: [`begin`](Progress::begin) … [`end`](Progress::end) encloses one countable piece of work.
pub trait Progress: Sync {
    /// A new stage starts, `skipped` ones included (the detail then says so).
    fn stage(&self, name: &str, detail: &str);
    /// A countable piece of work of `total` steps starts.
    fn begin(&self, what: &str, total: u64);
    /// `done` of the steps are behind us; `message` is short (loss, case, …).
    fn advance(&self, done: u64, message: &str);
    /// The countable work is done.
    fn end(&self);
    /// One line worth keeping.
    fn log(&self, line: &str);
    /// One line that only a person wants who asked for more.
    fn detail(&self, _line: &str) {}
    /// Whether the work should end soon: training then leaves a checkpoint and gives [`Error::Stopped`](crate::Error::Stopped).
    fn stopped(&self) -> bool {
        false
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: &str) {}
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn log(&self, _: &str) {}
}
