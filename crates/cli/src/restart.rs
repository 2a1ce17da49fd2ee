//! candle's own threads, switched off where rows train beside one another.

/// Starts this program again with candle's own threads switched off, unless somebody has set their number.
///
/// candle adds up gradients of more than 65,536 values with the help of a thread of its own, waits for it without sleeping, and lets it look for more work for a while.
/// Where every processor trains a row already that takes a tenth of the time. How many threads candle has it reads from the environment alone.
/// Comes back if there is nothing to do or if the system refuses; then all goes on as it is.
pub(crate) fn without_candle_threads() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        const NAME: &str = "CANDLE_NUM_THREADS";
        let mut arguments = std::env::args_os();
        let (Some(own), Ok(program)) = (arguments.next(), std::env::current_exe()) else { return };
        // Whoever runs this program through another one, a loader say, gets that one's name here.
        let same = std::path::Path::new(&own).file_name() == program.file_name();
        if same && std::env::var_os(NAME).is_none() {
            let _ = std::process::Command::new(program).arg0(own).args(arguments).env(NAME, "1").exec();
        }
    }
}
