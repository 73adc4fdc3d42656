/* SPDX-License-Identifier: MIT */
/*
 * Sandbox rules: what a process in the sandbox cannot do, one line each: the layer that stops it,
 * and how it ends when that layer stands alone. tests/unit/test_sandbox_rules.c has a small
 * violator for each, and fails for a line without one; docs/SANDBOX.md tells the same by layer.
 *
 * RULE(name, layer, end, text); end: FAILS(errno) or DIES(signal).
 */
#ifndef SAFERING_WORKER_SANDBOX_RULES_H
#define SAFERING_WORKER_SANDBOX_RULES_H

#define SRI_SANDBOX_RULES(RULE)                                                                    \
    /* namespaces */                                                                               \
    RULE(STRANGER_MEMORY, USER_NAMESPACE, FAILS(EPERM), "reads a process of the same user")        \
    RULE(HOST_LOOPBACK, NETWORK_NAMESPACE, FAILS(ENETUNREACH), "connects to a server of the host") \
    RULE(HOST_SEGMENT, IPC_NAMESPACE, FAILS(EINVAL), "looks at shared memory by its number")       \
    RULE(HOST_PROCESS, PID_NAMESPACE, FAILS(ESRCH), "finds a process of the host by its number")   \
    /* what is inherited */                                                                        \
    RULE(SURPLUS_DESCRIPTOR, DESCRIPTORS, FAILS(EBADF), "writes to a descriptor of the host")      \
    RULE(STANDARD_INPUT, DESCRIPTORS, FAILS(ENODATA), "reads the host's standard input")           \
    RULE(IGNORED_SIGNAL, SURROUNDINGS, DIES(SIGTERM), "survives a signal that the host ignores")   \
    RULE(BLOCKED_SIGNAL, SURROUNDINGS, DIES(SIGUSR1), "holds back a signal that the host blocks")  \
    RULE(HOST_DIRECTORY, SURROUNDINGS, FAILS(ENOENT), "opens a relative path where the host was")  \
    RULE(OPEN_UMASK, SURROUNDINGS, FAILS(EPERM), "makes a file that others can read")              \
    /* limits */                                                                                   \
    RULE(MANY_PROCESSES, PROCESSES, FAILS(EAGAIN), "forks without end")                            \
    RULE(MUCH_MEMORY, LIMITS, FAILS(ENOMEM), "takes more memory than it may")                      \
    RULE(MUCH_TIME, LIMITS, DIES(SIGXCPU), "uses the processor longer than it may")                \
    RULE(LONG_FILE, LIMITS, DIES(SIGXFSZ), "writes a file longer than it may")                     \
    RULE(MANY_FILES, LIMITS, FAILS(EMFILE), "opens more descriptors than it may")                  \
    RULE(CORE_DUMP, LIMITS, FAILS(EPERM), "may leave a core dump")                                 \
    RULE(HIGHER_LIMIT, LIMITS, FAILS(EMFILE), "raises its own limit again")                        \
    /* privileges */                                                                               \
    RULE(ROOT_POWERS, CAPABILITIES, FAILS(EPERM), "gives a file to another user, as root may")     \
    RULE(SET_USER_ID, NO_NEW_PRIVILEGES, FAILS(EPERM), "becomes another user by a program")        \
    RULE(OWN_MEMORY_FILE, UNDUMPABLE, FAILS(EACCES), "opens /proc/self/mem")                       \
    /* files */                                                                                    \
    RULE(OPEN_OUTSIDE, FILES, FAILS(EACCES), "opens a file outside of its paths")                  \
    RULE(LIST_OUTSIDE, FILES, FAILS(EACCES), "lists a folder outside of its paths")                \
    RULE(MAKE_OUTSIDE, FILES, FAILS(EACCES), "makes a file outside of its paths")                  \
    RULE(LINK_OUTSIDE, FILES, FAILS(EACCES), "opens a link in its paths that leads out")           \
    RULE(WRITE_READ_ONLY, FILES, FAILS(EACCES), "opens a read-only file for writing")              \
    RULE(MAKE_READ_ONLY, FILES, FAILS(EACCES), "makes a file in a read-only folder")               \
    RULE(REMOVE_READ_ONLY, FILES, FAILS(EACCES), "removes a read-only file")                       \
    RULE(MOVE_READ_ONLY, FILES, FAILS(EACCES), "moves a read-only file where it may write")        \
    RULE(LINK_READ_ONLY, FILES, FAILS(EXDEV), "links a read-only file where it may write")         \
    RULE(EXECUTE_FILE, FILES, FAILS(EACCES), "executes a file of its paths")                       \
    /* the network, signals */                                                                     \
    RULE(CONNECT_TCP, TCP, FAILS(EACCES), "connects by TCP")                                       \
    RULE(BIND_TCP, TCP, FAILS(EACCES), "binds a TCP port")                                         \
    RULE(SIGNAL_OUTSIDE, SCOPE, FAILS(EPERM), "signals a process outside")                         \
    RULE(ABSTRACT_SOCKET, SCOPE, FAILS(EPERM), "connects to an abstract socket outside")           \
    /* system calls: files */                                                                      \
    RULE(OPEN_WITHOUT_PATHS, CALLS, FAILS(EACCES), "opens a file, no path being listed")           \
    RULE(EMPTY_READ_ONLY, CALLS, FAILS(EPERM), "empties a file that it opens for reading")         \
    RULE(TRUNCATE_PATH, CALLS, FAILS(EACCES), "truncates a file by its path")                      \
    RULE(CHANGE_MODE, CALLS, FAILS(EPERM), "changes the mode of a file")                           \
    RULE(WATCH_FILES, CALLS, FAILS(EPERM), "watches what others do to files")                      \
    RULE(MEMORY_FILE, CALLS, FAILS(EPERM), "makes a file without a path")                          \
    /* system calls: sockets */                                                                    \
    RULE(MAKE_SOCKET, CALLS, FAILS(EACCES), "makes a TCP socket")                                  \
    RULE(USE_CONNECT, CALLS, FAILS(EACCES), "connects a socket that it got")                       \
    RULE(USE_BIND, CALLS, FAILS(EACCES), "binds a socket that it got")                             \
    RULE(SEND_TO_ADDRESS, CALLS, FAILS(EPERM), "sends to an address by a socket that it got")      \
    RULE(DATAGRAM_PAIR, CALLS, FAILS(EPERM), "makes a pair of sockets that can send to names")     \
    RULE(LOCAL_SOCKET, CALLS, FAILS(EPERM), "makes a local socket, the network being allowed")     \
    RULE(RAW_SOCKET, CALLS, FAILS(EPERM), "makes a raw socket, the network being allowed")         \
    RULE(RARE_SOCKET, CALLS, FAILS(EPERM), "makes a multipath socket, the network being allowed")  \
    RULE(NETLINK_SOCKET, CALLS, FAILS(EPERM), "makes a netlink socket, the network being allowed") \
    /* system calls: processes */                                                                  \
    RULE(FORK, CALLS, FAILS(EPERM), "forks")                                                       \
    RULE(OLD_FORK, CALLS, FAILS(EPERM), "forks by fork(2) itself")                                 \
    RULE(VFORK, CALLS, FAILS(EPERM), "forks by vfork(2)")                                          \
    RULE(SPAWN, CALLS, FAILS(EPERM), "spawns a program")                                           \
    RULE(CLONE3, CALLS, FAILS(ENOSYS), "clones by clone3(2)")                                      \
    RULE(EXECUTE, CALLS, DIES(SIGSYS), "executes a program")                                       \
    RULE(EXECUTE_DESCRIPTOR, CALLS, DIES(SIGSYS), "executes a descriptor")                         \
    RULE(TRACE, CALLS, DIES(SIGSYS), "traces")                                                     \
    RULE(READ_PROCESS, CALLS, DIES(SIGSYS), "reads memory of a process")                           \
    RULE(WRITE_PROCESS, CALLS, DIES(SIGSYS), "writes memory of a process")                         \
    RULE(TAKE_DESCRIPTOR, CALLS, DIES(SIGSYS), "takes a descriptor of a process")                  \
    RULE(OPEN_PROCESS, CALLS, FAILS(EPERM), "opens a process")                                     \
    RULE(NAMESPACES, CALLS, DIES(SIGSYS), "makes a namespace")                                     \
    /* system calls: signals to others */                                                          \
    RULE(KILL, CALLS, FAILS(EPERM), "kills another process")                                       \
    RULE(KILL_GROUP, CALLS, FAILS(EPERM), "kills its process group")                               \
    RULE(KILL_THREAD, CALLS, FAILS(EPERM), "kills a thread of another process")                    \
    RULE(KILL_ANY_THREAD, CALLS, FAILS(EPERM), "kills a thread by its number alone")               \
    RULE(QUEUE_SIGNAL, CALLS, FAILS(EPERM), "queues a signal to another process")                  \
    RULE(QUEUE_TO_THREAD, CALLS, FAILS(EPERM), "queues a signal to a thread of another process")   \
    RULE(KILL_BY_DESCRIPTOR, CALLS, FAILS(EPERM), "kills by a descriptor that it got")             \
    RULE(FCNTL_OWNER, CALLS, FAILS(EPERM), "has a descriptor signal another process")              \
    RULE(IOCTL_OWNER, CALLS, FAILS(EPERM), "has a socket signal another process")                  \
    /* system calls: the rest of the kernel */                                                     \
    RULE(MAKE_RING, CALLS, FAILS(EPERM), "makes a ring")                                           \
    RULE(ENTER_RING, CALLS, DIES(SIGSYS), "enters a ring that it got")                             \
    RULE(REGISTER_RING, CALLS, DIES(SIGSYS), "registers with a ring that it got")                  \
    RULE(BPF, CALLS, DIES(SIGSYS), "calls bpf(2)")                                                 \
    RULE(KEYS, CALLS, DIES(SIGSYS), "calls keyctl(2)")                                             \
    RULE(USER_FAULTS, CALLS, DIES(SIGSYS), "calls userfaultfd(2)")                                 \
    RULE(PERFORMANCE, CALLS, DIES(SIGSYS), "calls perf_event_open(2)")                             \
    RULE(MOUNT, CALLS, DIES(SIGSYS), "mounts")                                                     \
    RULE(MOUNT_TREE, CALLS, DIES(SIGSYS), "clones a mount by open_tree(2)")                        \
    RULE(CHANGE_ROOT, CALLS, DIES(SIGSYS), "changes its root")                                     \
    RULE(OTHER_TABLE, CALLS, DIES(SIGSYS), "calls by the table of another word size")              \
    RULE(OTHER_ARCHITECTURE, CALLS, DIES(SIGSYS), "calls as a 32-bit program")                     \
    RULE(NEWER_CALL, CALLS, FAILS(ENOSYS), "calls what is newer than the list")                    \
    RULE(RAISE_LIMIT, CALLS, FAILS(EPERM), "sets a limit")                                         \
    RULE(OUTLIVE_LAUNCHER, CALLS, FAILS(EPERM), "unsets its parent-death signal")                  \
    RULE(BECOME_DUMPABLE, CALLS, FAILS(EPERM), "becomes dumpable again")                           \
    RULE(IMPLIED_CODE, CALLS, FAILS(EPERM), "has all readable memory be code")                     \
    RULE(ANONYMOUS_CODE, CALLS, FAILS(EPERM), "maps code that is in no file")                      \
    RULE(WRITABLE_CODE, CALLS, FAILS(EPERM), "maps code that it can write")                        \
    RULE(TURN_INTO_CODE, CALLS, FAILS(EPERM), "makes memory into code")                            \
    RULE(TURN_WITH_KEY, CALLS, FAILS(EPERM), "makes memory into code by pkey_mprotect(2)")         \
    /* after loading */                                                                            \
    RULE(MAP_CODE, NO_NEW_CODE, FAILS(EPERM), "maps code from a file")                             \
    RULE(LOAD_LIBRARY, NO_NEW_CODE, FAILS(ELIBACC), "loads a library")                             \
    RULE(MORE_FILTERS, NO_NEW_CODE, FAILS(EPERM), "installs a filter of its own")

enum sri_sandbox_rule {
#define SRI_SANDBOX_RULE_NAME(name, layer, end, text) SRI_SANDBOX_RULE_##name,
    SRI_SANDBOX_RULES(SRI_SANDBOX_RULE_NAME)
#undef SRI_SANDBOX_RULE_NAME
        SRI_SANDBOX_RULE_COUNT
};

#endif
