/* The measured loops, in C: what connbench.engine.loop and in_flight do, without Python between the system calls.
 *
 * loop.py and in_flight.py are the same loops and explain them; both have the same names and the same order. What this
 * file adds: the global interpreter lock is released while attempts are made, and Python's signal handlers run in
 * between.
 *
 * Plan, draws and columns are Python objects. run_attempts() reads them once, at its start, and checks the bounds of
 * all that the loop will read and write; the loop itself then checks none.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* By number, as the headers of older systems lack them (ip(7), include/uapi/linux/in.h). */
#define OPTION_BIND_ADDRESS_NO_PORT 24
#define OPTION_LOCAL_PORT_RANGE 51

/* Descriptors of one poll(). */
#define MOST_POLLED 512

/* As in loop.py, in_flight.py, task.py and draws.py, which say why; tests/unit/test_loop_in_c.py compares them. */
#define TIMEOUTS_IN_A_ROW 5
#define MOST_DRAWS 1000
#define FLOOR_CALLS 500
#define LONGEST_SLEEP_NS 50000000
#define GIVEN_UP ETIME
#define TIMED_OUT EINPROGRESS

#define NONE -1
#define OUTSTANDING -2
#define MOST_EVENTS 256

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000
#define NS_PER_US 1000
#define US_PER_S 1000000
#define NO_LIMIT_NS (1LL << 62)
#define MOST_PORTS 65535

/* Tries between two looks at Python's signals: each look costs as much as some clock reads. */
#define TRIES_BETWEEN_SIGNALS 1024

/* connbench.engine.task.Reason */
enum reason { DONE, CAPACITY, STOPPED, NO_SOCKET, NO_ANSWER };

/* connbench.draws.Kind */
enum kind { NOTHING, PORT, WINDOW, FIXED, SEQUENTIAL };

/* connbench.draws.Draws */
struct draws {
	enum kind kind;
	uint64_t key, replaced_key;
	uint32_t low, count, stride, first, width, overhang, max_tries;
	uint32_t paths, spaces, ports_each;
	bool fills;
	const uint32_t *fixed;
	uint64_t fixed_count;
	Py_buffer fixed_view;
};

/* The samples (connbench.samples.AttemptColumns): an array for each column. */
struct columns {
	int64_t *started_ns, *prepare_ns, *connect_ns, *acquire_ns, *handshake_ns;
	uint32_t *tries;
	uint16_t *port, *error_number, *source, *target, *client;
};

static const struct {
	const char *name;
	char code;
	size_t offset;
} COLUMNS[] = {
	{"started_ns", 'q', offsetof(struct columns, started_ns)},
	{"prepare_ns", 'q', offsetof(struct columns, prepare_ns)},
	{"connect_ns", 'q', offsetof(struct columns, connect_ns)},
	{"acquire_ns", 'q', offsetof(struct columns, acquire_ns)},
	{"handshake_ns", 'q', offsetof(struct columns, handshake_ns)},
	{"tries", 'I', offsetof(struct columns, tries)},
	{"port", 'H', offsetof(struct columns, port)},
	{"errno", 'H', offsetof(struct columns, error_number)},
	{"source", 'H', offsetof(struct columns, source)},
	{"target", 'H', offsetof(struct columns, target)},
	{"client", 'H', offsetof(struct columns, client)},
};
#define COLUMN_COUNT (sizeof(COLUMNS) / sizeof(COLUMNS[0]))

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* connbench.linux.sock_destroy.PeerReset */
struct peer_reset {
	int netlink; /* -1: no resets at the other end */
	bool has_worked, is_refused;
};

/* connbench.engine.task.ChurnTask */
struct churn {
	bool is_on;
	int64_t filled_start;
	uint32_t filled_count;
	int64_t first, began;
	double interval_ns;
};

/* An attempt, in the course of its tries. */
struct attempt {
	int64_t row, slot;
	uint32_t path, source, target, space;
	uint32_t tries;
	int sock, failure;
	bool is_bound;
	int64_t begun, try_begun, prepared, finished;
};

/* An attempt after its connect(), whose handshake is outstanding. */
struct handshake {
	struct attempt attempt;
	struct handshake *earlier, *later; /* by the time at which the SYN was sent */
};

/* The handshakes of run_in_flight(). */
struct in_flight {
	int64_t most, outstanding; /* `most` is 0 where connect() blocks */
	int epoll;
	struct handshake *oldest, *newest;
	struct handshake *memory, *unused; /* room for `most`, of which `used` were used; those that are free again */
	int64_t used;
	int64_t answered; /* when a handshake ended last, other than by a time-out */
};

/* All that the loop reads and changes; the members have the names of loop.py's local variables. */
struct loop {
	int64_t begin, end; /* the rows */
	int family, kind;
	socklen_t address_size;
	int64_t timeout_ns, limit_ns, epoch;
	bool binds, chooses_port, binds_to_port, sets_window, defers_port, gives_up, resets;
	int reuse_option; /* 0 for none */
	uint16_t client;
	union address *sources, *targets;
	uint32_t source_count, target_count;
	int64_t *held_ports, *positions, capacity;
	struct peer_reset reset_peer;
	struct draws draws;
	struct churn churn;
	struct columns columns;
	const volatile int *stop;
	int *held; /* filling: a list of its own, of held_count; churn: the array of Python */
	int64_t held_count, begins_at;
	int timeouts;
	struct in_flight in_flight;

	/* How it ended, beside the reason. */
	int64_t failed_row;
	int socket_errno;
	bool has_raised;

	int since_signals;
	PyThreadState *thread;
	Py_buffer column_views[COLUMN_COUNT], stop_view, held_view, held_ports_view, positions_view;
};

static int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* the clock of perf_counter_ns() */
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- The draws, as in connbench.draws --- */

static uint64_t mix(uint64_t key, uint64_t row, uint64_t try)
{
	uint64_t bits = key + UINT64_C(0x9E3779B97F4A7C15) * ((row << 32 | try) + 1);

	bits = (bits ^ bits >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	bits = (bits ^ bits >> 27) * UINT64_C(0x94D049BB133111EB);
	return bits ^ bits >> 31;
}

static uint32_t below(uint64_t bits, uint32_t number)
{
	return (bits >> 32) * number >> 32;
}

/* The port space of a row, where the attempts fill one after the other. */
static uint64_t filled_space(const struct draws *draws, uint64_t row)
{
	uint64_t space = row / draws->ports_each, last = draws->spaces - 1;

	return space < last ? space : last;
}

static uint32_t path_of(const struct draws *draws, uint64_t row)
{
	if (!draws->fills)
		return row % draws->paths;
	return filled_space(draws, row) + draws->spaces * (row % (draws->paths / draws->spaces));
}

static uint64_t rank_of(const struct draws *draws, uint64_t row)
{
	if (draws->fills)
		return row - filled_space(draws, row) * draws->ports_each;
	return row / draws->spaces;
}

static uint32_t draw_window(const struct draws *draws, uint64_t bits)
{
	uint32_t overhang = draws->overhang, last = draws->count - 1;
	uint32_t offset = below(bits, draws->count - draws->width + 1 + 2 * overhang);
	uint32_t begin = offset > overhang ? offset - overhang : 0;
	uint32_t end = offset + (draws->width - 1 - overhang);

	if (end > last)
		end = last;
	begin = begin * draws->stride + draws->low;
	end = end * draws->stride + draws->low;
	return begin | end << 16;
}

static uint32_t draw_number(const struct draws *draws, uint64_t row, uint64_t try)
{
	switch (draws->kind) {
	case PORT:
		return draws->low + draws->stride * below(mix(draws->key, row, try), draws->count);
	case WINDOW:
		return draw_window(draws, mix(draws->key, row, try));
	case FIXED:
		return draws->fixed[rank_of(draws, row) % draws->fixed_count];
	case SEQUENTIAL:
	case NOTHING:
		break;
	}
	return 0;
}

static uint32_t port_at(const struct draws *draws, uint64_t position)
{
	return draws->low + draws->stride * ((draws->first + position) % draws->count);
}

static int64_t draw_replaced(const struct draws *draws, uint64_t row, int64_t filled_start, uint32_t filled_count)
{
	return filled_start + below(mix(draws->replaced_key, row, 0), filled_count);
}

/* --- The attempts --- */

/* Run the handlers of signals that have arrived. Returns whether the loop must end: the stop flag is set, or a handler
 * raised an exception, which run_attempts() then passes on.
 */
static bool heed_signals(struct loop *loop)
{
	PyEval_RestoreThread(loop->thread);
	loop->has_raised = loop->has_raised || PyErr_CheckSignals() < 0;
	loop->thread = PyEval_SaveThread();
	loop->since_signals = 0;
	return loop->has_raised || *loop->stop;
}

/* Whether no further attempt, and no further try, is to be made. */
static bool must_end(struct loop *loop)
{
	return *loop->stop || (++loop->since_signals >= TRIES_BETWEEN_SIGNALS && heed_signals(loop));
}

/* When it is the row's turn, by the pace of the churn. */
static int64_t turn_of(const struct churn *churn, int64_t row)
{
	double after = (double)(row - churn->first) * churn->interval_ns;

	return after < (double)NO_LIMIT_NS ? churn->began + (int64_t)after : NO_LIMIT_NS;
}

/* Wait until it is the row's turn. Returns false if the loop must end. */
static bool wait_for_turn(struct loop *loop, int64_t row)
{
	int64_t turn = turn_of(&loop->churn, row), now;

	while ((now = clock_ns()) < turn) {
		int64_t until = turn - now < LONGEST_SLEEP_NS ? turn : now + LONGEST_SLEEP_NS;
		struct timespec wake = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL);
		if (heed_signals(loop))
			return false;
	}
	return true;
}

/* Reset a connection at its other end, see connbench.linux.sock_destroy. */
static void reset_other_end(struct loop *loop, int sock)
{
	struct peer_reset *peer = &loop->reset_peer;
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {
		.header = {.nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DESTROY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.body = {
			.sdiag_family = loop->family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = UINT32_MAX,
			.id.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
		},
	};
	struct inet_diag_sockid *id = &request.body.id;
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[4096];
	} answer;
	union address near, far;
	socklen_t near_size = sizeof(near), far_size = sizeof(far);
	ssize_t size;

	if (peer->netlink < 0 || peer->is_refused)
		return;
	if (getsockname(sock, &near.any, &near_size) || getpeername(sock, &far.any, &far_size))
		return; /* ENOTCONN: it is reset already */
	if (loop->family == AF_INET6) {
		id->idiag_sport = far.v6.sin6_port;
		id->idiag_dport = near.v6.sin6_port;
		memcpy(id->idiag_src, &far.v6.sin6_addr, sizeof(far.v6.sin6_addr));
		memcpy(id->idiag_dst, &near.v6.sin6_addr, sizeof(near.v6.sin6_addr));
	} else {
		id->idiag_sport = far.v4.sin_port;
		id->idiag_dport = near.v4.sin_port;
		id->idiag_src[0] = far.v4.sin_addr.s_addr;
		id->idiag_dst[0] = near.v4.sin_addr.s_addr;
	}
	do {
		size = send(peer->netlink, &request, sizeof(request), 0);
	} while (size < 0 && errno == EINTR);
	if (size < 0)
		return;
	do {
		size = recv(peer->netlink, &answer, sizeof(answer), 0);
	} while (size < 0 && errno == EINTR);
	if (size < (ssize_t)(sizeof(answer.header) + sizeof(answer.error.error)))
		return;
	if (answer.error.error == 0)
		peer->has_worked = true;
	else if (answer.error.error != -ENOENT || !peer->has_worked)
		/* The kernel answers ENOENT for a connection that is gone, and also if it has no tcp_diag. In that case
		 * it searches for the module at each request, which takes milliseconds.
		 */
		peer->is_refused = true;
}

/* SO_LINGER with 0 s: close() sends a reset, and leaves no TIME_WAIT. */
static void reset_on_close(int sock)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* Close the connection that the churn replaces. */
static void leave(struct loop *loop, int64_t slot)
{
	int leaving = loop->held[slot];

	if (leaving < 0)
		return;
	loop->held[slot] = -1;
	if (loop->resets) {
		reset_other_end(loop, leaving);
		reset_on_close(leaving);
	}
	close(leaving);
}

/* Limit how long a connect() of a socket blocks. SO_SNDTIMEO takes 0 for no limit, so that the least is 1 us. Returns
 * false where setsockopt() fails.
 */
static bool limit_connect(int sock, int64_t timeout_ns)
{
	int64_t us = timeout_ns > NS_PER_US ? timeout_ns / NS_PER_US : 1;
	const struct timeval timeout = {.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};

	return !setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

/* Raise the OSError of a call that no kernel refuses, but a sandbox may; run() passes it on. */
static void raise_errno(struct loop *loop, int error_number)
{
	PyEval_RestoreThread(loop->thread);
	errno = error_number;
	PyErr_SetFromErrno(PyExc_OSError);
	loop->has_raised = true;
	loop->thread = PyEval_SaveThread();
}

/* Give the attempt a socket. Returns false where that fails: without a time-out a connect() could block for minutes. */
static bool new_socket(struct loop *loop, struct attempt *attempt)
{
	int flags = SOCK_CLOEXEC | (loop->in_flight.most ? SOCK_NONBLOCK : 0);

	attempt->sock = socket(loop->family, loop->kind | flags, 0);
	if (attempt->sock < 0) {
		loop->socket_errno = errno;
		loop->failed_row = attempt->row;
		return false;
	}
	if (!loop->in_flight.most && !limit_connect(attempt->sock, loop->timeout_ns)) {
		raise_errno(loop, errno);
		close(attempt->sock);
		return false;
	}
	return true;
}

/* What the strategy does before connect(). Returns 0 or an errno. */
static int prepare(const struct loop *loop, int sock, uint32_t option, const union address *local)
{
	const int on = 1;

	if (loop->defers_port && setsockopt(sock, SOL_IP, OPTION_BIND_ADDRESS_NO_PORT, &on, sizeof(on)))
		return errno;
	if (loop->reuse_option && setsockopt(sock, SOL_SOCKET, loop->reuse_option, &on, sizeof(on)))
		return errno;
	if (loop->sets_window && setsockopt(sock, SOL_IP, OPTION_LOCAL_PORT_RANGE, &option, sizeof(option)))
		return errno;
	if (loop->binds && bind(sock, &local->any, loop->address_size))
		return errno;
	return 0;
}

/* Go on with a connect() that a signal interrupted. Calling it again waits for the same handshake, and reports its end;
 * EALREADY says that the rest of the time has passed, too (__inet_stream_connect() in net/ipv4/af_inet.c).
 *
 * Returns false if the loop must end.
 */
static bool resume_connect(struct loop *loop, struct attempt *attempt, const union address *target)
{
	while (attempt->failure == EINTR) {
		if (heed_signals(loop))
			return false;
		limit_connect(attempt->sock, attempt->prepared + loop->timeout_ns - clock_ns());
		attempt->failure = connect(attempt->sock, &target->any, loop->address_size) ? errno : 0;
		attempt->finished = clock_ns();
	}
	if (attempt->failure == EALREADY)
		attempt->failure = TIMED_OUT;
	return true;
}

/* One try: prepare the socket, connect, take the times. Returns false if the loop must end. */
static bool make_try(struct loop *loop, struct attempt *attempt)
{
	uint32_t number = draw_number(&loop->draws, attempt->row, attempt->tries++);
	const union address *target = &loop->targets[attempt->target];
	union address local = loop->sources[attempt->source];

	if (loop->draws.kind == SEQUENTIAL)
		number = port_at(&loop->draws, loop->positions[attempt->space]++);
	if (loop->chooses_port && loop->family == AF_INET6)
		local.v6.sin6_port = htons(number);
	else if (loop->chooses_port)
		local.v4.sin_port = htons(number);
	attempt->try_begun = clock_ns();
	if (attempt->tries == 1)
		attempt->begun = attempt->try_begun;
	attempt->failure = prepare(loop, attempt->sock, number, &local);
	if (attempt->failure) {
		attempt->prepared = attempt->finished = clock_ns();
		attempt->is_bound = false;
	} else {
		int result;

		attempt->prepared = clock_ns();
		result = connect(attempt->sock, &target->any, loop->address_size);
		attempt->finished = clock_ns();
		attempt->failure = result ? errno : 0; /* a clock_gettime() that succeeds leaves errno alone */
		attempt->is_bound = loop->binds_to_port;
		if (attempt->failure == EINTR)
			return resume_connect(loop, attempt, target);
	}
	return true;
}

static bool is_no_port_free(int failure)
{
	return failure == EADDRINUSE || failure == EADDRNOTAVAIL || failure == EAGAIN;
}

/* Whether a further try follows; sets the failure of an attempt that is given up. */
static bool tries_again(const struct loop *loop, struct attempt *attempt)
{
	if (!attempt->failure || attempt->tries >= loop->draws.max_tries || !is_no_port_free(attempt->failure))
		return false;
	if (loop->gives_up && attempt->tries >= MOST_DRAWS && loop->held_ports[attempt->space] >= loop->draws.count)
		return false;
	if (attempt->finished - attempt->begun > loop->limit_ns) {
		attempt->failure = GIVEN_UP;
		return false;
	}
	return true;
}

/* Write the attempt's row, except its outcome. */
static void record(const struct loop *loop, const struct attempt *attempt)
{
	const struct columns *columns = &loop->columns;
	int64_t row = attempt->row;

	columns->started_ns[row] = attempt->begun - loop->epoch;
	columns->prepare_ns[row] = attempt->prepared - attempt->try_begun;
	columns->connect_ns[row] = attempt->finished - attempt->prepared;
	columns->acquire_ns[row] = attempt->finished - attempt->begun;
	columns->source[row] = attempt->source;
	columns->target[row] = attempt->target;
	columns->client[row] = loop->client;
}

/* The row is finished once its `tries` is not 0: the parent process reads it meanwhile. */
static void record_tries(const struct loop *loop, const struct attempt *attempt)
{
	__atomic_store_n(&loop->columns.tries[attempt->row], attempt->tries, __ATOMIC_RELEASE);
}

static uint16_t local_port(const struct loop *loop, int sock)
{
	union address bound;
	socklen_t size = sizeof(bound);

	if (getsockname(sock, &bound.any, &size))
		return 0;
	return ntohs(loop->family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
}

/* Write the outcome, and close the socket if the attempt failed. */
static void record_outcome(struct loop *loop, struct attempt *attempt)
{
	/* An unanswered SYN (TIMED_OUT) is not a slow search, and keeps its own error. */
	if (attempt->finished - attempt->begun > loop->limit_ns && !attempt->failure) {
		reset_other_end(loop, attempt->sock);
		attempt->failure = GIVEN_UP;
		reset_on_close(attempt->sock);
	}
	if (attempt->failure) {
		close(attempt->sock);
		attempt->sock = NONE;
		loop->columns.error_number[attempt->row] = attempt->failure;
	} else {
		loop->columns.port[attempt->row] = local_port(loop, attempt->sock);
	}
	record_tries(loop, attempt);
}

/* Write the outcome, and keep the connection. Returns the reason for the loop to end, else DONE. */
static enum reason finish(struct loop *loop, struct attempt *attempt)
{
	int64_t *held_ports = &loop->held_ports[attempt->space];

	record_outcome(loop, attempt);
	if (attempt->failure) {
		loop->timeouts = attempt->failure == TIMED_OUT ? loop->timeouts + 1 : 0;
		if (loop->timeouts)
			loop->since_signals = TRIES_BETWEEN_SIGNALS; /* so long an attempt is followed by a look */
		if (loop->timeouts == TIMEOUTS_IN_A_ROW) {
			loop->failed_row = attempt->row;
			return NO_ANSWER;
		}
		if (loop->gives_up && attempt->tries == loop->draws.max_tries)
			*held_ports = loop->draws.count;
	} else {
		loop->timeouts = 0;
	}
	if (loop->churn.is_on) {
		loop->held[attempt->slot] = attempt->sock;
		return DONE;
	}
	loop->held[loop->held_count++] = attempt->sock;
	if (attempt->sock >= 0) {
		*held_ports += loop->gives_up;
		if (--loop->capacity == 0)
			return CAPACITY;
	}
	return DONE;
}

/* Make the tries of an attempt, and write their times. Returns the reason for the loop to end, else DONE.
 *
 * `filling_row` is the row whose path it takes: its own, or that of the connection that it replaces.
 */
static enum reason make_tries(struct loop *loop, struct attempt *attempt, int64_t filling_row)
{
	attempt->path = path_of(&loop->draws, filling_row);
	attempt->source = attempt->path % loop->source_count;
	attempt->target = attempt->path / loop->source_count;
	attempt->space = attempt->path % loop->draws.spaces;
	if (!new_socket(loop, attempt))
		return NO_SOCKET;
	for (;;) {
		if (!make_try(loop, attempt))
			break;
		if (!tries_again(loop, attempt)) {
			record(loop, attempt);
			return DONE;
		}
		if (must_end(loop))
			break;
		if (attempt->is_bound) {
			/* bind() succeeded and connect() failed: a bound socket cannot be bound to another port. */
			close(attempt->sock);
			if (!new_socket(loop, attempt))
				return NO_SOCKET;
		}
	}
	close(attempt->sock);
	return STOPPED;
}

/* Make the attempt of a row. Returns the reason for the loop to end, else DONE. */
static enum reason make_attempt(struct loop *loop, int64_t row)
{
	struct attempt attempt = {.row = row};
	int64_t filling_row = row;
	enum reason reason;

	if (loop->churn.is_on) {
		const struct churn *churn = &loop->churn;

		if (churn->interval_ns > 0 && !wait_for_turn(loop, row))
			return STOPPED;
		filling_row = draw_replaced(&loop->draws, row, churn->filled_start, churn->filled_count);
		attempt.slot = filling_row - loop->begins_at;
		leave(loop, attempt.slot);
	}
	reason = make_tries(loop, &attempt, filling_row);
	return reason == DONE ? finish(loop, &attempt) : reason;
}

/* Make all attempts, without the global interpreter lock. */
static enum reason make_attempts(struct loop *loop)
{
	if (loop->capacity <= 0)
		return CAPACITY;
	for (int64_t row = loop->begin; row < loop->end; row++) {
		enum reason reason;

		if (must_end(loop))
			return STOPPED;
		reason = make_attempt(loop, row);
		if (reason != DONE)
			return reason;
	}
	return DONE;
}

/* --- The attempts in flight, as in connbench.engine.in_flight --- */

static bool goes_on(const struct loop *loop)
{
	return !*loop->stop && !loop->has_raised && loop->timeouts < TIMEOUTS_IN_A_ROW;
}

/* Finish an attempt whose outcome is known at `now`. */
static void finish_in_flight(struct loop *loop, struct attempt *attempt, int64_t now)
{
	loop->columns.handshake_ns[attempt->row] = now - attempt->finished;
	loop->columns.acquire_ns[attempt->row] = now - attempt->begun;
	attempt->finished = now;
	record_outcome(loop, attempt);
	loop->held[attempt->slot] = attempt->sock;
	if (attempt->failure)
		--loop->held_ports[attempt->space];
	else if (!loop->churn.is_on)
		--loop->capacity;
}

static void end_handshake(struct loop *loop, struct handshake *ended, int failure, int64_t now)
{
	struct in_flight *in_flight = &loop->in_flight;

	*(ended->earlier ? &ended->earlier->later : &in_flight->oldest) = ended->later;
	*(ended->later ? &ended->later->earlier : &in_flight->newest) = ended->earlier;
	in_flight->outstanding--;
	epoll_ctl(in_flight->epoll, EPOLL_CTL_DEL, ended->attempt.sock, NULL);
	ended->attempt.failure = failure;
	finish_in_flight(loop, &ended->attempt, now);
	ended->later = in_flight->unused;
	in_flight->unused = ended;
}

/* Put an attempt's handshake behind all others, and let epoll watch its socket; without memory for that (ENOMEM, or
 * ENOSPC by fs.epoll.max_user_watches) the attempt fails.
 */
static void begin_handshake(struct loop *loop, const struct attempt *attempt)
{
	struct in_flight *in_flight = &loop->in_flight;
	struct handshake *begun = in_flight->unused;
	struct epoll_event event = {.events = EPOLLOUT};

	if (begun)
		in_flight->unused = begun->later;
	else
		begun = &in_flight->memory[in_flight->used++];
	*begun = (struct handshake){.attempt = *attempt, .earlier = in_flight->newest};
	if (in_flight->newest)
		in_flight->newest->later = begun;
	else
		in_flight->oldest = begun;
	in_flight->newest = begun;
	in_flight->outstanding++;
	event.data.ptr = begun;
	if (epoll_ctl(in_flight->epoll, EPOLL_CTL_ADD, attempt->sock, &event))
		end_handshake(loop, begun, errno, attempt->finished);
}

static int failure_of(int sock, uint32_t event)
{
	int failure = 0;
	socklen_t size = sizeof(failure);

	if (event & (EPOLLERR | EPOLLHUP))
		getsockopt(sock, SOL_SOCKET, SO_ERROR, &failure, &size);
	return failure;
}

/* Finish the attempts whose handshakes have ended or timed out; wait for the first of them for a while. */
static void collect(struct loop *loop, int64_t wait_ns)
{
	struct in_flight *in_flight = &loop->in_flight;
	struct epoll_event events[MOST_EVENTS];
	int64_t now, left = 0;
	int count;

	if (!in_flight->oldest)
		return;
	if (wait_ns) {
		left = in_flight->oldest->attempt.finished + loop->timeout_ns - clock_ns();
		left = left < 0 ? 0 : left < wait_ns ? left : wait_ns;
	}
	count = epoll_wait(in_flight->epoll, events, MOST_EVENTS, (left + NS_PER_MS - 1) / NS_PER_MS);
	now = clock_ns();
	if (wait_ns && count <= 0)
		heed_signals(loop);
	for (int i = 0; i < count; i++) {
		struct handshake *ended = events[i].data.ptr;

		loop->timeouts = 0;
		in_flight->answered = now;
		end_handshake(loop, ended, failure_of(ended->attempt.sock, events[i].events), now);
	}
	while (in_flight->oldest && loop->timeouts < TIMEOUTS_IN_A_ROW) {
		struct handshake *oldest = in_flight->oldest;

		if (now - oldest->attempt.finished < loop->timeout_ns)
			break;
		loop->timeouts += oldest->attempt.finished >= in_flight->answered;
		if (loop->timeouts == TIMEOUTS_IN_A_ROW)
			loop->failed_row = oldest->attempt.row;
		end_handshake(loop, oldest, TIMED_OUT, now);
	}
}

/* Wait until it is the row's turn, and collect meanwhile. */
static void collect_until_turn(struct loop *loop, int64_t row)
{
	int64_t turn = turn_of(&loop->churn, row), left;

	while ((left = turn - clock_ns()) > 0 && goes_on(loop)) {
		left = left < LONGEST_SLEEP_NS ? left : LONGEST_SLEEP_NS;
		if (loop->in_flight.oldest && left >= NS_PER_MS) { /* epoll counts in ms */
			collect(loop, left / NS_PER_MS * NS_PER_MS);
		} else {
			const struct timespec time = {.tv_nsec = left};

			nanosleep(&time, NULL);
			heed_signals(loop);
		}
	}
}

/* Begin the attempt of a row. Returns the reason for the loop to end, else DONE. */
static enum reason begin_attempt(struct loop *loop, int64_t row)
{
	struct attempt attempt = {.row = row, .slot = loop->held_count};
	int64_t filling_row = row;
	enum reason reason;

	if (loop->churn.is_on) {
		const struct churn *churn = &loop->churn;

		if (churn->interval_ns > 0)
			collect_until_turn(loop, row);
		filling_row = draw_replaced(&loop->draws, row, churn->filled_start, churn->filled_count);
		attempt.slot = filling_row - loop->begins_at;
		while (loop->held[attempt.slot] == OUTSTANDING && goes_on(loop))
			collect(loop, LONGEST_SLEEP_NS);
	}
	if (!goes_on(loop))
		return STOPPED;
	if (loop->churn.is_on)
		leave(loop, attempt.slot);
	reason = make_tries(loop, &attempt, filling_row);
	if (reason != DONE)
		return reason;
	++loop->held_ports[attempt.space];
	loop->held[attempt.slot] = OUTSTANDING;
	loop->held_count += !loop->churn.is_on;
	if (attempt.failure == EINPROGRESS) {
		begin_handshake(loop, &attempt);
		return DONE;
	}
	finish_in_flight(loop, &attempt, attempt.finished);
	if (attempt.failure && loop->gives_up && attempt.tries == loop->draws.max_tries)
		loop->held_ports[attempt.space] = loop->draws.count;
	return DONE;
}

/* Whether as many handshakes are outstanding as may be: more would not fit the limit, or the worker's descriptors. */
static bool is_full(const struct loop *loop)
{
	const struct in_flight *in_flight = &loop->in_flight;

	return in_flight->outstanding >= (loop->capacity < in_flight->most ? loop->capacity : in_flight->most);
}

/* Make all attempts with sockets that do not block, without the global interpreter lock. */
static enum reason make_attempts_in_flight(struct loop *loop)
{
	enum reason reason = DONE;

	for (int64_t row = loop->begin; row < loop->end && reason == DONE; row++) {
		if (must_end(loop))
			break;
		collect(loop, 0);
		while (loop->capacity > 0 && is_full(loop) && goes_on(loop))
			collect(loop, LONGEST_SLEEP_NS);
		reason = loop->capacity > 0 ? begin_attempt(loop, row) : CAPACITY;
	}
	while (loop->in_flight.oldest && goes_on(loop))
		collect(loop, LONGEST_SLEEP_NS);
	if (loop->timeouts >= TIMEOUTS_IN_A_ROW)
		reason = NO_ANSWER;
	else if (*loop->stop && reason == DONE)
		reason = STOPPED;
	for (const struct handshake *left = loop->in_flight.oldest; left; left = left->later) {
		loop->held[left->attempt.slot] = NONE;
		reset_on_close(left->attempt.sock);
		close(left->attempt.sock);
	}
	return reason;
}

/* --- The objects of Python: read once, at the start of a call ---
 *
 * A read_ function that fails sets an exception and returns 0. While one is set, all of them do nothing: a caller reads
 * everything, and then asks once whether an exception is set.
 */

/* An attribute of an attribute ..., by a path as in "plan.strategy.retries". Returns a new reference. */
static PyObject *read_attribute(PyObject *object, const char *path)
{
	PyObject *found = Py_NewRef(object);
	char name[64];

	while (found && *path && !PyErr_Occurred()) {
		size_t size = strcspn(path, ".");
		PyObject *next = NULL;

		if (size < sizeof(name)) {
			memcpy(name, path, size);
			name[size] = '\0';
			next = PyObject_GetAttrString(found, name);
		} else {
			PyErr_SetString(PyExc_SystemError, path);
		}
		path += size + (path[size] == '.');
		Py_DECREF(found);
		found = next;
	}
	if (PyErr_Occurred())
		Py_CLEAR(found);
	return found;
}

static int64_t read_integer(PyObject *object, const char *path, int64_t low, int64_t high)
{
	PyObject *found = read_attribute(object, path);
	long long value = found ? PyLong_AsLongLong(found) : 0;

	Py_XDECREF(found);
	if (PyErr_Occurred())
		return 0;
	if (value < low || value > high) {
		PyErr_Format(PyExc_ValueError, "%s is %lld", path, value);
		return 0;
	}
	return value;
}

static uint64_t read_key(PyObject *object, const char *path)
{
	PyObject *found = read_attribute(object, path);
	uint64_t key = found ? PyLong_AsUnsignedLongLong(found) : 0;

	Py_XDECREF(found);
	return PyErr_Occurred() ? 0 : key;
}

static double read_number(PyObject *object, const char *path)
{
	PyObject *found = read_attribute(object, path);
	double value = found ? PyFloat_AsDouble(found) : 0;

	Py_XDECREF(found);
	if (PyErr_Occurred())
		return 0;
	if (!(value >= 0)) { /* NaN, too */
		PyErr_Format(PyExc_ValueError, "%s is negative", path);
		return 0;
	}
	return value;
}

static bool read_flag(PyObject *object, const char *path)
{
	PyObject *found = read_attribute(object, path);
	bool is_true = found && PyObject_IsTrue(found) > 0;

	Py_XDECREF(found);
	return is_true;
}

static bool read_is_none(PyObject *object, const char *path)
{
	PyObject *found = read_attribute(object, path);
	bool is_none = found == Py_None;

	Py_XDECREF(found);
	return is_none;
}

/* The memory of a buffer of at least `least` elements of a type of the module `array`. The caller releases the view. */
static void *read_buffer(PyObject *object, const char *name, char code, int64_t least, int flags, Py_buffer *view)
{
	if (PyErr_Occurred() || PyObject_GetBuffer(object, view, PyBUF_ND | PyBUF_FORMAT | flags))
		return NULL;
	if (!view->format || view->format[0] != code || view->format[1] || view->len / view->itemsize < least) {
		PyErr_Format(PyExc_ValueError, "%s is no buffer of %lld elements of type %c", name, (long long)least, code);
		return NULL;
	}
	return view->buf;
}

static void read_draws(PyObject *object, struct draws *draws)
{
	PyObject *fixed = read_attribute(object, "fixed");
	int64_t max_tries;

	draws->kind = read_integer(object, "kind", NOTHING, SEQUENTIAL);
	draws->key = read_key(object, "key");
	draws->replaced_key = read_key(object, "replaced_key");
	draws->low = read_integer(object, "low", 1, MOST_PORTS);
	draws->stride = read_integer(object, "stride", 1, MOST_PORTS);
	draws->count = read_integer(object, "count", 1, (MOST_PORTS - draws->low) / (draws->stride ? draws->stride : 1) + 1);
	draws->first = read_integer(object, "first", 0, draws->count - 1);
	draws->width = read_integer(object, "width", draws->kind == WINDOW, draws->count);
	draws->overhang = read_integer(object, "overhang", 0, draws->width ? draws->width - 1 : 0);
	max_tries = read_integer(object, "max_tries", 1, INT64_MAX);
	draws->max_tries = max_tries < UINT32_MAX ? max_tries : UINT32_MAX;
	draws->paths = read_integer(object, "paths", 1, UINT32_MAX);
	draws->spaces = read_integer(object, "spaces", 1, draws->paths);
	draws->fills = read_flag(object, "fills");
	draws->ports_each = read_integer(object, "ports_each", draws->fills, MOST_PORTS);
	if (fixed) {
		draws->fixed = read_buffer(fixed, "fixed", 'I', draws->kind == FIXED, 0, &draws->fixed_view);
		if (draws->fixed)
			draws->fixed_count = draws->fixed_view.len / draws->fixed_view.itemsize;
	}
	Py_XDECREF(fixed);
}

static void read_address(PyObject *object, const char *host_path, int family, uint16_t port, union address *address)
{
	PyObject *host = read_attribute(object, host_path);
	const char *text = host ? PyUnicode_AsUTF8AndSize(host, NULL) : NULL;
	void *bytes = family == AF_INET6 ? (void *)&address->v6.sin6_addr : (void *)&address->v4.sin_addr;

	address->any.sa_family = family;
	if (family == AF_INET6)
		address->v6.sin6_port = htons(port);
	else
		address->v4.sin_port = htons(port);
	if (text && inet_pton(family, text, bytes) != 1)
		PyErr_Format(PyExc_ValueError, "%s is no address of family %d", text, family);
	Py_XDECREF(host);
}

/* The addresses of a tuple: of strings, with port 0, or of endpoints. The caller frees them. */
static union address *read_addresses(PyObject *object, const char *path, bool are_endpoints, int family, uint32_t *count)
{
	PyObject *tuple = read_attribute(object, path);
	Py_ssize_t size = tuple ? PyTuple_Size(tuple) : -1;
	union address *addresses = size > 0 ? calloc(size, sizeof(*addresses)) : NULL;

	if (!PyErr_Occurred() && !addresses)
		PyErr_Format(size ? PyExc_MemoryError : PyExc_ValueError, "%s has %zd addresses", path, size);
	for (Py_ssize_t i = 0; i < size && !PyErr_Occurred(); i++) {
		PyObject *one = PyTuple_GetItem(tuple, i);

		if (are_endpoints)
			read_address(one, "host", family, read_integer(one, "port", 0, MOST_PORTS), &addresses[i]);
		else
			read_address(one, "", family, 0, &addresses[i]);
	}
	*count = size > 0 ? size : 0;
	Py_XDECREF(tuple);
	return addresses;
}

/* A counter of the client for each port space. The caller releases the view. */
static int64_t *read_counters(PyObject *task, const char *name, const struct loop *loop, Py_buffer *view)
{
	PyObject *counters = read_attribute(task, name);
	int64_t *found = counters ? read_buffer(counters, name, 'q', loop->draws.spaces, PyBUF_WRITABLE, view) : NULL;

	Py_XDECREF(counters);
	return found;
}

static void read_columns(PyObject *task, struct loop *loop)
{
	PyObject *columns = read_attribute(task, "columns");

	for (size_t i = 0; i < COLUMN_COUNT && !PyErr_Occurred(); i++) {
		PyObject *column = PyMapping_GetItemString(columns, COLUMNS[i].name);
		void **member = (void **)((char *)&loop->columns + COLUMNS[i].offset);

		if (column)
			*member = read_buffer(column, COLUMNS[i].name, COLUMNS[i].code, loop->end, PyBUF_WRITABLE,
					      &loop->column_views[i]);
		Py_XDECREF(column);
	}
	Py_XDECREF(columns);
}

static void read_peer_reset(PyObject *task, struct peer_reset *peer)
{
	peer->netlink = -1;
	if (read_is_none(task, "reset_peer"))
		return;
	peer->netlink = read_integer(task, "reset_peer.descriptor", 0, INT32_MAX);
	peer->has_worked = read_flag(task, "reset_peer.has_worked");
	peer->is_refused = read_flag(task, "reset_peer.is_refused");
}

/* Hand on what was learned to the next call. */
static void write_peer_reset(PyObject *task, const struct peer_reset *peer)
{
	PyObject *object = peer->netlink < 0 ? NULL : read_attribute(task, "reset_peer");

	if (object && !PyObject_SetAttrString(object, "has_worked", peer->has_worked ? Py_True : Py_False))
		PyObject_SetAttrString(object, "is_refused", peer->is_refused ? Py_True : Py_False);
	Py_XDECREF(object);
}

static void read_churn(PyObject *object, PyObject *held, struct loop *loop)
{
	struct churn *churn = &loop->churn;

	churn->is_on = true;
	churn->filled_start = read_integer(object, "filled.start", 0, INT32_MAX);
	churn->filled_count = read_integer(object, "filled.stop", churn->filled_start + 1, INT32_MAX) - churn->filled_start;
	churn->first = read_integer(object, "first", 0, loop->begin);
	churn->began = read_integer(object, "began", 0, NO_LIMIT_NS);
	churn->interval_ns = read_number(object, "interval_ns");
	loop->timeouts = read_integer(object, "timeouts", 0, TIMEOUTS_IN_A_ROW);
	loop->held = read_buffer(held, "held", 'i', 0, PyBUF_WRITABLE, &loop->held_view);
	if (PyErr_Occurred())
		return;
	loop->held_count = loop->held_view.len / loop->held_view.itemsize;
	for (int64_t row = loop->begin; row < loop->end; row++) {
		int64_t slot = draw_replaced(&loop->draws, row, churn->filled_start, churn->filled_count) - loop->begins_at;

		if (slot < 0 || slot >= loop->held_count) {
			PyErr_Format(PyExc_ValueError, "row %lld replaces a row of another worker", (long long)row);
			return;
		}
	}
}

static void read_task(PyObject *task, PyObject *rows, struct loop *loop)
{
	PyObject *draws = read_attribute(task, "draws"), *stop = read_attribute(task, "stop");
	double timeout_ns = read_number(task, "timeout") * NS_PER_S;

	loop->begin = read_integer(rows, "start", 0, INT32_MAX);
	loop->end = read_integer(rows, "stop", 0, INT32_MAX);
	read_integer(rows, "step", 1, 1);
	loop->family = read_integer(task, "family", AF_INET, AF_INET6);
	loop->kind = read_integer(task, "kind", SOCK_STREAM, SOCK_DGRAM);
	loop->address_size = loop->family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	loop->timeout_ns = timeout_ns < (double)NO_LIMIT_NS ? (int64_t)timeout_ns : NO_LIMIT_NS;
	loop->limit_ns = read_integer(task, "limit_ns", 0, NO_LIMIT_NS);
	loop->epoch = read_integer(task, "epoch", 0, NO_LIMIT_NS);
	loop->binds = read_flag(task, "traits.chooses_source");
	loop->chooses_port = read_flag(task, "traits.chooses_port");
	loop->binds_to_port = read_flag(task, "traits.binds_to_port");
	loop->sets_window = read_flag(task, "traits.sets_port_range");
	loop->reuse_option = read_integer(task, "reuse_option", 0, INT32_MAX);
	loop->defers_port = read_flag(task, "defers_port");
	loop->resets = read_flag(task, "resets");
	loop->client = read_integer(task, "client", 0, UINT16_MAX);
	loop->capacity = read_integer(task, "capacity", INT64_MIN, INT64_MAX);
	loop->begins_at = read_integer(task, "rows.start", 0, INT32_MAX);
	loop->sources = read_addresses(task, "plan.sources", false, loop->family, &loop->source_count);
	loop->targets = read_addresses(task, "plan.plan.targets", true, loop->family, &loop->target_count);
	if (stop)
		loop->stop = read_buffer(stop, "stop", 'i', 1, 0, &loop->stop_view);
	if (draws)
		read_draws(draws, &loop->draws);
	if (!PyErr_Occurred() && loop->draws.paths != (uint64_t)loop->source_count * loop->target_count)
		PyErr_SetString(PyExc_ValueError, "paths is not sources times targets");
	loop->held_ports = read_counters(task, "held_ports", loop, &loop->held_ports_view);
	loop->positions = read_counters(task, "positions", loop, &loop->positions_view);
	read_columns(task, loop);
	read_peer_reset(task, &loop->reset_peer);
	Py_XDECREF(draws);
	Py_XDECREF(stop);
}

/* The filling's own list of descriptors: memory that no attempt uses is never touched. */
static void make_list(struct loop *loop)
{
	if (PyErr_Occurred())
		return;
	loop->held = malloc((loop->end > loop->begin ? loop->end - loop->begin : 1) * sizeof(*loop->held));
	if (!loop->held)
		PyErr_NoMemory();
}

/* Append the list to Python's array, and free it. */
static void append_list(PyObject *held, struct loop *loop)
{
	PyObject *list = PyMemoryView_FromMemory((char *)loop->held, loop->held_count * sizeof(*loop->held), PyBUF_READ);
	PyObject *done = list ? PyObject_CallMethod(held, "frombytes", "O", list) : NULL;

	Py_XDECREF(done);
	Py_XDECREF(list);
}

/* What run_in_flight() needs besides. */
static void read_in_flight(PyObject *task, struct loop *loop)
{
	struct in_flight *in_flight = &loop->in_flight;
	int64_t rows = loop->end > loop->begin ? loop->end - loop->begin : 1;

	in_flight->most = read_integer(task, "plan.strategy.load.in_flight", 1, INT32_MAX);
	if (PyErr_Occurred())
		return;
	in_flight->memory = calloc(in_flight->most < rows ? in_flight->most : rows, sizeof(*in_flight->memory));
	in_flight->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!in_flight->memory)
		PyErr_NoMemory();
	else if (in_flight->epoll < 0)
		PyErr_SetFromErrno(PyExc_OSError);
}

static void release(struct loop *loop)
{
	free(loop->in_flight.memory);
	if (loop->in_flight.epoll >= 0)
		close(loop->in_flight.epoll);
	if (!loop->churn.is_on)
		free(loop->held);
	free(loop->sources);
	free(loop->targets);
	for (size_t i = 0; i < COLUMN_COUNT; i++)
		PyBuffer_Release(&loop->column_views[i]);
	PyBuffer_Release(&loop->stop_view);
	PyBuffer_Release(&loop->held_view);
	PyBuffer_Release(&loop->held_ports_view);
	PyBuffer_Release(&loop->positions_view);
	PyBuffer_Release(&loop->draws.fixed_view);
}

/* A connbench.engine.task.LoopEnd. */
static PyObject *make_loop_end(enum reason reason, const struct loop *loop)
{
	PyObject *module = PyImport_ImportModule("connbench.engine.task");
	PyObject *named = module ? PyObject_CallMethod(module, "Reason", "i", (int)reason) : NULL;
	PyObject *end = NULL;

	if (named)
		end = PyObject_CallMethod(module, "LoopEnd", "OiLi", named, loop->timeouts, (long long)loop->failed_row,
					  loop->socket_errno);
	Py_XDECREF(named);
	Py_XDECREF(module);
	return end;
}

static PyObject *run(PyObject *arguments, PyObject *keywords, bool is_in_flight)
{
	static char *names[] = {"task", "held", "rows", "churn", NULL};
	PyObject *task, *held, *rows, *churn = Py_None, *end = NULL;
	struct loop loop = {.in_flight.epoll = -1};
	enum reason reason = DONE;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOO|O", names, &task, &held, &rows, &churn))
		return NULL;
	read_task(task, rows, &loop);
	if (churn != Py_None) {
		read_churn(churn, held, &loop);
	} else {
		loop.gives_up = read_flag(task, "draws_until_free");
		make_list(&loop);
	}
	if (is_in_flight)
		read_in_flight(task, &loop);
	if (!PyErr_Occurred()) {
		loop.thread = PyEval_SaveThread();
		reason = is_in_flight ? make_attempts_in_flight(&loop) : make_attempts(&loop);
		PyEval_RestoreThread(loop.thread);
		/* Also where a signal handler has raised: the caller closes what was opened. */
		if (!loop.churn.is_on) {
			PyObject *type, *value, *trace;

			PyErr_Fetch(&type, &value, &trace);
			append_list(held, &loop);
			if (type)
				PyErr_Restore(type, value, trace);
		}
	}
	if (!PyErr_Occurred())
		write_peer_reset(task, &loop.reset_peer);
	if (!PyErr_Occurred())
		end = make_loop_end(reason, &loop);
	release(&loop);
	return end;
}

static PyObject *run_attempts(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	return run(arguments, keywords, false);
}

static PyObject *run_in_flight(PyObject *module, PyObject *arguments, PyObject *keywords)
{
	(void)module;
	return run(arguments, keywords, true);
}

/* --- What a worker asks of all its connections --- */

/* Read the arguments (task, held). The caller releases the view. */
static int *read_held(PyObject *arguments, PyObject **task, Py_buffer *view)
{
	PyObject *held;

	if (!PyArg_ParseTuple(arguments, "OO", task, &held))
		return NULL;
	return read_buffer(held, "held", 'i', 0, PyBUF_WRITABLE, view);
}

static PyObject *count(PyObject *module, PyObject *arguments)
{
	Py_buffer view = {0};
	PyObject *task;
	int *held = read_held(arguments, &task, &view);
	long long opened = 0, established = 0;

	(void)module;
	if (held) {
		int *end = held + view.len / view.itemsize;

		Py_BEGIN_ALLOW_THREADS
		while (held < end) {
			struct pollfd files[MOST_POLLED];
			unsigned number = 0;

			for (; held < end && number < MOST_POLLED; held++)
				if (*held >= 0)
					files[number++] = (struct pollfd){.fd = *held, .events = POLLOUT | POLLRDHUP};
			opened += number;
			if (poll(files, number, 0) > 0)
				while (number--)
					established += files[number].revents == POLLOUT;
		}
		Py_END_ALLOW_THREADS
	}
	PyBuffer_Release(&view);
	return PyErr_Occurred() ? NULL : Py_BuildValue("LL", opened, established);
}

static PyObject *reset_all(PyObject *module, PyObject *arguments)
{
	Py_buffer view = {0};
	PyObject *task;
	int *held = read_held(arguments, &task, &view);

	(void)module;
	if (held) {
		int *end = held + view.len / view.itemsize;

		Py_BEGIN_ALLOW_THREADS
		for (; held < end; held++) {
			if (*held < 0)
				continue;
			reset_on_close(*held);
			close(*held);
			*held = -1;
		}
		Py_END_ALLOW_THREADS
	}
	PyBuffer_Release(&view);
	return held ? Py_NewRef(Py_None) : NULL;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static PyObject *measure_floor(PyObject *module, PyObject *arguments)
{
	int64_t costs[FLOOR_CALLS];
	union address *targets;
	socklen_t size;
	uint32_t count;
	PyObject *task;
	int connected, family;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Oi", &task, &connected))
		return NULL;
	family = read_integer(task, "family", AF_INET, AF_INET6);
	size = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	if (read_integer(task, "kind", SOCK_STREAM, SOCK_DGRAM) == SOCK_DGRAM)
		connected = -1;
	targets = read_addresses(task, "plan.plan.targets", true, family, &count);
	if (PyErr_Occurred()) {
		free(targets);
		return NULL;
	}
	for (int i = 0; i < FLOOR_CALLS; i++) {
		int64_t begun = clock_ns();

		connect(connected, &targets->any, size);
		costs[i] = clock_ns() - begun;
	}
	free(targets);
	qsort(costs, FLOOR_CALLS, sizeof(*costs), compare);
	return PyLong_FromLongLong(costs[FLOOR_CALLS / 2]);
}

/* --- The draws, for the test that compares them with connbench.draws --- */

static PyObject *mix_of(PyObject *module, PyObject *arguments)
{
	unsigned long long key, row, try = 0;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KK|K", &key, &row, &try))
		return NULL;
	return PyLong_FromUnsignedLongLong(mix(key, row, try));
}

static PyObject *below_of(PyObject *module, PyObject *arguments)
{
	unsigned long long bits;
	unsigned int number;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "KI", &bits, &number))
		return NULL;
	return PyLong_FromUnsignedLong(below(bits, number));
}

/* The draws of a row and a try, as a tuple: the number, the path, the row that it replaces. */
static PyObject *draw(PyObject *module, PyObject *arguments)
{
	PyObject *object, *filled, *drawn = NULL;
	unsigned int row, try;
	struct draws draws = {0};

	(void)module;
	if (!PyArg_ParseTuple(arguments, "OIIO", &object, &row, &try, &filled))
		return NULL;
	read_draws(object, &draws);
	int64_t start = read_integer(filled, "start", 0, INT32_MAX), stop = read_integer(filled, "stop", 1, INT32_MAX);

	if (!PyErr_Occurred())
		drawn = Py_BuildValue("IIL", draw_number(&draws, row, try), path_of(&draws, row),
				      (long long)draw_replaced(&draws, row, start, stop - start));
	PyBuffer_Release(&draws.fixed_view);
	return drawn;
}

static PyMethodDef methods[] = {
	{"run_attempts", (PyCFunction)(void (*)(void))run_attempts, METH_VARARGS | METH_KEYWORDS,
	 "run_attempts(task, held, rows, churn=None) -> LoopEnd; see connbench.engine.loop."},
	{"run_in_flight", (PyCFunction)(void (*)(void))run_in_flight, METH_VARARGS | METH_KEYWORDS,
	 "run_in_flight(task, held, rows, churn=None) -> LoopEnd; see connbench.engine.in_flight."},
	{"count", count, METH_VARARGS, "count(task, held) -> (held, established); see connbench.engine.loop."},
	{"reset_all", reset_all, METH_VARARGS, "reset_all(task, held); see connbench.engine.loop."},
	{"measure_floor", measure_floor, METH_VARARGS, "measure_floor(task, descriptor) -> ns; see connbench.engine.loop."},
	{"mix", mix_of, METH_VARARGS, "mix(key, row, try=0); see connbench.draws."},
	{"below", below_of, METH_VARARGS, "below(bits, number); see connbench.draws."},
	{"draw", draw, METH_VARARGS, "draw(draws, row, try, filled) -> (number, path, replaced); see connbench.draws."},
	{NULL, NULL, 0, NULL},
};

static int add_constants(PyObject *module)
{
	return PyModule_AddIntMacro(module, TIMEOUTS_IN_A_ROW) || PyModule_AddIntMacro(module, MOST_DRAWS) ||
	       PyModule_AddIntMacro(module, FLOOR_CALLS) || PyModule_AddIntMacro(module, LONGEST_SLEEP_NS) ||
	       PyModule_AddIntMacro(module, GIVEN_UP) || PyModule_AddIntMacro(module, TIMED_OUT);
}

static PyModuleDef_Slot slots[] = {
	{Py_mod_exec, add_constants},
	{0, NULL},
};

static PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "connbench.engine._loop",
	.m_doc = "The measured loop in C; see connbench.engine.loop.",
	.m_methods = methods,
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__loop(void)
{
	return PyModuleDef_Init(&definition);
}
