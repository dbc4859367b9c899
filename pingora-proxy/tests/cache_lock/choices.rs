//! The choices of a run, and the next run that has not been seen: a search in depth over all of them, as loom does it.

/// A choice in favour of one of several that may come next. The first of them is the usual one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// The usual order of events.
    Usual,
    /// Another order.
    Order,
    /// Something goes wrong.
    Fault,
}

/// How often a run may leave the usual one.
#[derive(Clone, Copy)]
pub struct Budget {
    pub order: usize,
    pub faults: usize,
}

impl Budget {
    pub const NONE: Budget = Budget {
        order: 0,
        faults: 0,
    };

    fn affords(&self, cost: Cost) -> bool {
        match cost {
            Cost::Usual => true,
            Cost::Order => self.order > 0,
            Cost::Fault => self.faults > 0,
        }
    }

    fn pay(&mut self, cost: Cost) {
        match cost {
            Cost::Usual => {}
            Cost::Order => self.order -= 1,
            Cost::Fault => self.faults -= 1,
        }
    }
}

struct Point {
    taken: usize,
    costs: Vec<Cost>,
    left: Budget,
}

/// Where the choices come from that are not given.
enum Rest {
    Usual,
    /// A generator of numbers that look random (xorshift64).
    Random(u64),
}

pub struct Choices {
    /// What the run begins with.
    given: Vec<usize>,
    points: Vec<Point>,
    left: Budget,
    rest: Rest,
}

impl Choices {
    /// The first run of a search, with nothing unusual in it.
    pub fn first(budget: Budget) -> Self {
        Choices::given(Vec::new(), budget)
    }

    /// The run that these choices begin.
    pub fn given(given: Vec<usize>, budget: Budget) -> Self {
        Choices {
            given,
            points: Vec::new(),
            left: budget,
            rest: Rest::Usual,
        }
    }

    /// A run at random.
    pub fn random(seed: u64, budget: Budget) -> Self {
        // Seeds that follow each other shall not begin alike, and none may be 0.
        let seed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Choices {
            rest: Rest::Random(seed),
            ..Choices::first(budget)
        }
    }

    /// Picks one of several that may come next.
    pub fn pick(&mut self, costs: &[Cost]) -> usize {
        let taken = match self.given.get(self.points.len()) {
            Some(given) => *given,
            None => self.rest.pick(costs, &self.left),
        };
        self.points.push(Point {
            taken,
            costs: costs.to_vec(),
            left: self.left,
        });
        self.left.pay(costs[taken]);
        taken
    }

    /// What is left of the run is the usual one.
    pub fn settle(&mut self) {
        self.left = Budget::NONE;
        self.rest = Rest::Usual;
    }

    /// The choices of the next run of the search: the last one that can be is another one.
    pub fn next(mut self) -> Option<Vec<usize>> {
        while let Some(point) = self.points.pop() {
            let others = point.taken + 1..point.costs.len();
            let next = others
                .into_iter()
                .find(|next| point.left.affords(point.costs[*next]));
            if let Some(next) = next {
                let before = self.points.iter().map(|point| point.taken);
                return Some(before.chain([next]).collect());
            }
        }
        None
    }

    /// What was chosen, to have it again.
    pub fn taken(&self) -> Vec<usize> {
        let mut taken: Vec<_> = self.points.iter().map(|point| point.taken).collect();
        let unusual = taken.iter().rposition(|taken| *taken > 0);
        taken.truncate(unusual.map_or(0, |last| last + 1));
        taken
    }
}

impl Rest {
    fn pick(&mut self, costs: &[Cost], left: &Budget) -> usize {
        let Rest::Random(state) = self else {
            return 0;
        };
        let mut next = |below: usize| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state >> 32) as usize % below
        };
        let taken = next(costs.len());
        // What can go wrong is most of what can happen, and mostly does not.
        let usual = costs[taken] == Cost::Fault && next(8) > 0;
        if usual || !left.affords(costs[taken]) {
            return 0;
        }
        taken
    }
}
