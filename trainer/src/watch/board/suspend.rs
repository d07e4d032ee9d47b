//! Being stopped and woken by a shell: the screen is given back before, and taken anew afterwards.

use crate::io::terminal;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What signals ask for.
#[derive(Default)]
pub struct Suspension {
    stop: Arc<AtomicBool>,
    woken: Arc<AtomicBool>,
    /// Whether the board is gone: a stop then is an ordinary one.
    idle: Arc<AtomicBool>,
}

#[cfg(unix)]
impl Suspension {
    /// Begins to listen. Where the system refuses, shells still stop and wake the program, and its screen with it.
    pub fn listen() -> Suspension {
        use signal_hook::consts::{SIGCONT, SIGTSTP};
        let suspension = Suspension::default();
        let _ = signal_hook::flag::register_conditional_default(SIGTSTP, Arc::clone(&suspension.idle));
        let _ = signal_hook::flag::register(SIGTSTP, Arc::clone(&suspension.stop));
        let _ = signal_hook::flag::register(SIGCONT, Arc::clone(&suspension.woken));
        suspension
    }

    /// Whether the program should stop now, as Ctrl-Z asks.
    pub fn asked(&self) -> bool {
        self.stop.swap(false, Ordering::SeqCst)
    }

    /// Whether it was stopped and woken without having been asked before: the shell has used the screen.
    pub fn woken(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    /// Gives the screen back and stops the program; returns when it is woken.
    pub fn stop(&self) {
        terminal::leave();
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
        self.woken.store(false, Ordering::SeqCst);
    }

    /// Whether the terminal is ours to draw on: a program in the background would be stopped again.
    pub fn in_foreground() -> bool {
        // Of a terminal that controls nobody there is no telling, and no job control.
        nix::unistd::tcgetpgrp(io::stdin()).map_or(true, |group| group == nix::unistd::getpgrp())
    }
}

#[cfg(not(unix))]
impl Suspension {
    /// There are no such signals here.
    pub fn listen() -> Suspension {
        Suspension::default()
    }

    /// Never.
    pub fn asked(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Never.
    pub fn woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Nothing.
    pub fn stop(&self) {}

    /// Always.
    pub fn in_foreground() -> bool {
        true
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        self.idle.store(true, Ordering::SeqCst);
    }
}

/// Takes the screen back once the terminal is ours; `false`: not yet.
pub fn take_back() -> io::Result<bool> {
    if !Suspension::in_foreground() {
        return Ok(false);
    }
    terminal::leave();
    terminal::enter()?;
    Ok(true)
}
