//! One acceptor of all has the turn; what it wrote the next one sees; and a turn that ends is free for others.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::Arc;
use loom::thread;

use crate::word::{AcceptMutex, Across, Turn};

/// The kernel's lock on a file: of the process that took it, whichever of its threads did.
struct File {
    holder: AtomicUsize,
}

const FREE: usize = 0;

/// A process' description of that file.
struct Description {
    file: Arc<File>,
    process: usize,
}

impl Across for Description {
    fn try_lock(&self) -> bool {
        let holder = &self.file.holder;
        match holder.compare_exchange(FREE, self.process, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => true,
            // A process gets what it has already: threads of one exclude each other by the word alone.
            Err(holder) => holder == self.process,
        }
    }

    fn unlock(&self) {
        self.file.holder.store(FREE, Ordering::Release);
    }
}

/// Processes, by their mutexes.
fn processes<const N: usize>() -> [Arc<AcceptMutex<Description>>; N] {
    let file = Arc::new(File {
        holder: AtomicUsize::new(FREE),
    });
    std::array::from_fn(|n| {
        AcceptMutex::new(Description {
            file: file.clone(),
            process: n + 1,
        })
    })
}

/// What only who has the turn may touch; loom tells when two do.
struct Sockets(UnsafeCell<usize>);

impl Sockets {
    fn accept(&self, _turn: &Turn<Description>) {
        self.0.with_mut(|n| {
            // SAFETY: loom's cell checks that nobody else is in here.
            unsafe { *n += 1 }
        });
    }
}

fn contend(mutexes: Vec<Arc<AcceptMutex<Description>>>) {
    let sockets = Arc::new(Sockets(UnsafeCell::new(0)));
    let trying: Vec<_> = mutexes
        .iter()
        .map(|mutex| {
            let (mutex, sockets) = (mutex.clone(), sockets.clone());
            thread::spawn(move || match AcceptMutex::try_turn(&mutex) {
                Some(turn) => {
                    sockets.accept(&turn);
                    1
                }
                None => 0,
            })
        })
        .collect();
    let turns: usize = trying.into_iter().map(|t| t.join().unwrap()).sum();
    // Somebody had one, unless each stood in the other's way; and all of them are over.
    for mutex in mutexes {
        let turn = AcceptMutex::try_turn(&mutex).expect("free again");
        sockets.accept(&turn);
        sockets.0.with(|n| {
            // SAFETY: as above.
            assert!(unsafe { *n } > turns)
        });
    }
}

#[test]
fn two_threads_of_a_process() {
    loom::model(|| {
        let [one] = processes();
        contend(vec![one.clone(), one]);
    });
}

#[test]
fn two_processes() {
    loom::model(|| contend(processes::<2>().to_vec()));
}

#[test]
fn two_threads_and_another_process() {
    let mut model = loom::model::Builder::new();
    // Every order of three threads takes minutes.
    model.preemption_bound = Some(3);
    model.check(|| {
        let [one, two] = processes();
        contend(vec![one.clone(), one, two]);
    });
}

/// The holder's task is dropped in the middle of its turn, by a panic or with its runtime: nothing stays locked.
#[test]
fn a_holder_that_is_gone() {
    loom::model(|| {
        let [one, two] = processes();
        let holder = {
            let one = one.clone();
            thread::spawn(move || drop(AcceptMutex::try_turn(&one)))
        };
        let other = thread::spawn(move || drop(AcceptMutex::try_turn(&two)));
        holder.join().unwrap();
        other.join().unwrap();
        assert!(AcceptMutex::try_turn(&one).is_some());
    });
}

/// One of two threads that try while nobody holds anything gets it.
#[test]
fn somebody_gets_it() {
    loom::model(|| {
        let [one] = processes();
        let kept = Arc::new(loom::sync::Mutex::new(Vec::new()));
        let trying: Vec<_> = (0..2)
            .map(|_| {
                let (one, kept) = (one.clone(), kept.clone());
                thread::spawn(move || {
                    let turn = AcceptMutex::try_turn(&one);
                    kept.lock().unwrap().extend(turn);
                })
            })
            .collect();
        trying.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(kept.lock().unwrap().len(), 1);
    });
}
