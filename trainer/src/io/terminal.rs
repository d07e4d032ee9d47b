//! The terminal as one screen that is drawn on, given back as it was whatever happens: at the end, at a panic, when the program is
//! ended at once.

use super::output;
use ratatui::crossterm::{cursor, execute, terminal};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

/// Whether the screen is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Held by who draws.
static DRAWING: Mutex<()> = Mutex::new(());
/// How long a screen that is being drawn is waited for. Who panics while drawing waits for himself.
const PATIENCE: Duration = Duration::from_millis(200);

/// Whether there is a terminal that can be drawn on.
pub fn is_there() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Takes the screen: what is printed is held back, and keys arrive one by one, Ctrl-C among them.
///
/// # Errors
/// Where the terminal refuses; it is then as it was.
pub fn enter() -> io::Result<()> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
        }));
    });
    terminal::enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    output::hold();
    let taken = execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide);
    if taken.is_err() {
        leave();
    }
    taken
}

/// Gives the screen back, if it is taken, and prints what was held back.
pub fn leave() {
    let _drawing = wait();
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Where the terminal is gone there is nothing to give back.
        let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
        let _ = terminal::disable_raw_mode();
        output::release();
    }
}

/// Draws, unless the screen was given back meanwhile.
pub fn drawing<T>(draw: impl FnOnce() -> T) -> Option<T> {
    let _drawing = wait();
    TAKEN.load(Ordering::SeqCst).then(draw)
}

fn wait() -> Option<MutexGuard<'static, ()>> {
    let begin = Instant::now();
    loop {
        match DRAWING.try_lock() {
            Ok(guard) => return Some(guard),
            Err(std::sync::TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) if begin.elapsed() > PATIENCE => return None,
            Err(std::sync::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;
    use std::io::Read as _;
    use std::process::Command;

    /// In whose environment this is set panics with the screen taken.
    const CHILD: &str = "DUET_TEST_PANICS_ON_SCREEN";

    #[test]
    fn a_panic_gives_the_screen_back_before_it_is_told() {
        if std::env::var_os(CHILD).is_some() {
            enter().unwrap();
            panic!("on purpose");
        }
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "io::terminal::tests::a_panic_gives_the_screen_back_before_it_is_told",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        assert!(!child.wait().unwrap().success());
        let after = tcgetattr(&pty.slave).unwrap();
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
        let mut text = vec![0; 1 << 14];
        let read = std::fs::File::from(pty.master).read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..read]).into_owned();
        let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text:?}"));
        assert!(
            at("\u{1b}[?1049h") < at("\u{1b}[?1049l") && at("\u{1b}[?1049l") < at("on purpose"),
            "{text:?}"
        );
    }
}
