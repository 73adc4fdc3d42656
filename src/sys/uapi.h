/* SPDX-License-Identifier: MIT */
/*
 * Kernel constants that Debian 12's liburing 2.3, or the oldest C library that we build with, does
 * not have. liburing's header holds its own in enums, which no #ifdef can see, so ours have names
 * of their own. Values: include/uapi/linux/io_uring.h and asm-generic/mman-common.h of Linux 6.18.
 */
#ifndef SAFERING_SYS_UAPI_H
#define SAFERING_SYS_UAPI_H

#include <liburing.h>

#define SRI_IORING_OP_WAITID     50 /* Linux 6.7 */
#define SRI_IORING_OP_FUTEX_WAIT 51 /* Linux 6.7 */
#define SRI_IORING_OP_FUTEX_WAKE 52 /* Linux 6.7 */
#define SRI_IORING_OP_FTRUNCATE  55 /* Linux 6.9 */
#define SRI_IORING_OP_BIND       56 /* Linux 6.11 */
#define SRI_IORING_OP_LISTEN     57 /* Linux 6.11 */

#define SRI_IORING_CQE_F_NOTIF (1u << 3) /* Linux 6.0 */

#define SRI_IORING_NOP_INJECT_RESULT 1 /* Linux 6.10 */

/* FUTEX2_* (linux/futex.h): `fd` of futex operations. */
#define SRI_FUTEX2_SIZE_MASK 3u
#define SRI_FUTEX2_SIZE_U32  2u
#define SRI_FUTEX2_PRIVATE   128u

#define SRI_MADV_POPULATE_WRITE 23 /* Linux 5.14, glibc 2.35 */

#endif
