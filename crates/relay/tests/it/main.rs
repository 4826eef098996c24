//! The crate over real sockets on loopback: every port is the kernel's choice, and tests wait for conditions.

// The attributes tell clippy what this target always is: helpers of tests may unwrap, too.
#[cfg(test)]
mod accepting;
#[cfg(test)]
mod dialing;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod unix;
