//! Tasks that depend on earlier ones, several at a time, each on threads of its own.
//!
//! A small network keeps few threads busy: two of them at once, on half the threads each, are done sooner than one after another. What is left
//! when there is nothing else to do gets all threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Result;

/// One piece of work.
pub(crate) struct Task {
    /// Earlier tasks that have to be done before.
    pub(crate) needs: Vec<usize>,
    /// How long it takes, in any unit: what leads to the longest way through all tasks comes first.
    pub(crate) cost: u64,
}

/// The threads of all lanes together, and how many of the lanes are at work.
struct Everybody {
    threads: ThreadPool,
    at_work: AtomicUsize,
}

/// Who does a piece of a task: the threads that it runs on already, or those of all lanes.
#[derive(Clone, Default)]
pub(crate) struct Team(Option<Arc<Everybody>>);

impl Team {
    /// Runs a piece of a task, long enough for a few wake-ups not to count: on the threads of all lanes while no other lane is at work.
    pub(crate) fn run<R: Send>(&self, piece: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(all) if all.at_work.load(Ordering::Relaxed) == 1 => all.threads.install(piece),
            _ => piece(),
        }
    }
}

/// One lane more at work, as long as it lives.
struct AtWork<'a>(&'a Team);

impl<'a> AtWork<'a> {
    fn new(team: &'a Team) -> Self {
        team.0.iter().for_each(|all| _ = all.at_work.fetch_add(1, Ordering::Relaxed));
        Self(team)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.0.iter().for_each(|all| _ = all.at_work.fetch_sub(1, Ordering::Relaxed));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Taken,
    Done,
}

struct Board {
    states: Vec<State>,
    /// The outcome, as soon as a task fails.
    outcome: Result<()>,
    /// A task failed, or its thread panicked.
    over: bool,
}

struct Shared<'a> {
    board: Mutex<Board>,
    changed: Condvar,
    tasks: &'a [Task],
    /// Of each task, its cost and that of the longest way from it to an end.
    ways: Vec<u64>,
    stop: &'a AtomicBool,
    team: Team,
}

/// Runs every task once, `lanes` at a time, on an equal share of the caller's threads each, or on more for the pieces that it gives to its [`Team`]. `stop` is set when one fails: those under way
/// should then end soon. The error is that of the first that failed.
pub(crate) fn run(
    tasks: &[Task],
    lanes: usize,
    stop: &AtomicBool,
    work: impl Fn(usize, &Team) -> Result<()> + Sync,
) -> Result<()> {
    let Some((pools, all)) = pools(lanes.min(tasks.len())) else {
        return (0..tasks.len()).try_for_each(|task| work(task, &Team::default()));
    };
    let team = Team(Some(Arc::new(Everybody { threads: all, at_work: AtomicUsize::new(0) })));
    let board = Board { states: vec![State::Waiting; tasks.len()], outcome: Ok(()), over: false };
    let shared =
        Shared { board: Mutex::new(board), changed: Condvar::new(), tasks, ways: ways(tasks), stop, team };
    std::thread::scope(|scope| {
        let lane = |pool: ThreadPool| {
            let (shared, work) = (&shared, &work);
            scope.spawn(move || shared.lane(&pool, work))
        };
        let lanes: Vec<_> = pools.into_iter().map(lane).collect();
        for lane in lanes {
            if let Err(panic) = lane.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    shared.board.into_inner().unwrap_or_else(PoisonError::into_inner).outcome
}

/// Threads for each lane, and for one that is left; none where one lane does it all, or the system has no more threads to give.
fn pools(lanes: usize) -> Option<(Vec<ThreadPool>, ThreadPool)> {
    if lanes < 2 {
        return None;
    }
    let threads = rayon::current_num_threads();
    let share = |lane: usize| (threads / lanes + usize::from(lane < threads % lanes)).max(1);
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().ok();
    Some(((0..lanes).map(|lane| pool(share(lane))).collect::<Option<_>>()?, pool(threads)?))
}

fn ways(tasks: &[Task]) -> Vec<u64> {
    let mut ways: Vec<u64> = tasks.iter().map(|task| task.cost).collect();
    for (i, task) in tasks.iter().enumerate().rev() {
        for &need in &task.needs {
            ways[need] = ways[need].max(tasks[need].cost + ways[i]);
        }
    }
    ways
}

impl Shared<'_> {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one task after another until there is none left.
    fn lane(&self, pool: &ThreadPool, work: &(impl Fn(usize, &Team) -> Result<()> + Sync)) {
        /// Lets the others go when a task panics.
        struct Over<'a, 'b>(&'a Shared<'b>);
        impl Drop for Over<'_, '_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop.store(true, Ordering::Relaxed);
                    self.0.board().over = true;
                    self.0.changed.notify_all();
                }
            }
        }
        let _over = Over(self);
        while let Some(task) = self.next() {
            let at_work = AtWork::new(&self.team);
            let outcome = pool.install(|| work(task, &self.team));
            drop(at_work);
            let mut board = self.board();
            board.states[task] = State::Done;
            if outcome.is_err() && !board.over {
                self.stop.store(true, Ordering::Relaxed);
                board.over = true;
                board.outcome = outcome;
            }
            self.changed.notify_all();
        }
    }

    /// The task to do next, once there is one; `None` when there will be none.
    fn next(&self) -> Option<usize> {
        let mut board = self.board();
        loop {
            if board.over {
                return None;
            }
            let ready = |&i: &usize| {
                board.states[i] == State::Waiting
                    && self.tasks[i].needs.iter().all(|&need| board.states[need] == State::Done)
            };
            // Of equal ways the first.
            if let Some(task) = (0..self.tasks.len()).rev().filter(ready).max_by_key(|&i| self.ways[i]) {
                board.states[task] = State::Taken;
                return Some(task);
            }
            if board.states.iter().all(|&state| state != State::Waiting) {
                return None;
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn task(needs: &[usize], cost: u64) -> Task {
        Task { needs: needs.to_vec(), cost }
    }

    fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    }

    #[test]
    fn every_task_runs_once_and_after_what_it_needs() {
        let tasks = [task(&[], 1), task(&[], 9), task(&[0], 5), task(&[1, 2], 1), task(&[0], 1)];
        assert_eq!(ways(&tasks), [7, 10, 6, 1, 1]);
        for lanes in 1..=6 {
            let order = Mutex::new(Vec::new());
            on(4, || {
                run(&tasks, lanes, &AtomicBool::new(false), |i, _| {
                    let done = order.lock().unwrap().clone();
                    assert!(tasks[i].needs.iter().all(|need| done.contains(need)), "{i} after {done:?}");
                    order.lock().unwrap().push(i);
                    Ok(())
                })
            })
            .unwrap();
            let mut order = order.into_inner().unwrap();
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4], "{lanes} lanes");
        }
    }

    #[test]
    fn lanes_share_the_threads() {
        let seen = Mutex::new(Vec::new());
        let both = std::sync::Barrier::new(2);
        on(5, || {
            run(&[task(&[], 1), task(&[], 1)], 2, &AtomicBool::new(false), |_, _| {
                // Neither goes on before the other has begun.
                both.wait();
                seen.lock().unwrap().push(rayon::current_num_threads());
                Ok(())
            })
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [2, 3]);
    }

    #[test]
    fn the_last_task_has_all_threads() {
        let seen = Mutex::new(Vec::new());
        let both = std::sync::Barrier::new(2);
        on(5, || {
            run(&[task(&[], 1), task(&[], 1), task(&[0, 1], 1)], 2, &AtomicBool::new(false), |i, team| {
                let threads = || team.run(rayon::current_num_threads);
                if i < 2 {
                    both.wait();
                    seen.lock().unwrap().push(threads());
                    both.wait();
                } else {
                    seen.lock().unwrap().push(threads());
                }
                Ok(())
            })
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        assert_eq!(seen.pop(), Some(5));
        seen.sort_unstable();
        assert_eq!(seen, [2, 3]);
        assert!(Team::default().run(rayon::current_num_threads) > 0);
    }

    #[test]
    fn the_first_failure_stops_the_rest() {
        for lanes in [1, 2] {
            let stop = AtomicBool::new(false);
            let begun = Mutex::new(Vec::new());
            let found = on(2, || {
                run(&[task(&[], 3), task(&[], 2), task(&[0], 1), task(&[1], 1)], lanes, &stop, |i, _| {
                    begun.lock().unwrap().push(i);
                    if i == 0 {
                        return Err(Error::Config("task 0".into()));
                    }
                    while lanes == 2 && !stop.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    Err(Error::Config("stopped".into()))
                })
            });
            assert_eq!(found.unwrap_err().to_string(), "config: task 0");
            assert!(begun.into_inner().unwrap().iter().all(|&i| i < 2));
        }
    }

    #[test]
    fn a_panic_does_not_leave_the_others_waiting() {
        let tasks = [task(&[], 1), task(&[0], 1), task(&[0], 1)];
        let found = std::panic::catch_unwind(|| {
            on(2, || run(&tasks, 2, &AtomicBool::new(false), |_, _| panic!("as asked")))
        });
        assert!(found.is_err());
    }
}
