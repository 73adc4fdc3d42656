/* SPDX-License-Identifier: MIT */
#include "ring/client.h"

void sri_ring_add_client(sr_ring *ring, struct sri_ring_client *client) {
    client->ring = ring;
    client->next = ring->clients;
    ring->clients = client;
}

void sri_ring_remove_client(struct sri_ring_client *client) {
    if (client->ring == NULL) {
        return;
    }
    struct sri_ring_client **link = &client->ring->clients;
    while (*link != client) {
        SR_CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = client->next;
    client->ring = NULL;
}

void sri_ring_leave_clients(sr_ring *ring) {
    while (ring->clients != NULL) {
        sri_ring_remove_client(ring->clients);
    }
}

uint64_t sri_ring_clients_deadline(const sr_ring *ring) {
    uint64_t next_ns = SR_FOREVER;
    for (const struct sri_ring_client *client = ring->clients; client != NULL;
         client = client->next) {
        next_ns = client->deadline_ns < next_ns ? client->deadline_ns : next_ns;
    }
    return next_ns;
}

/* No client can go meanwhile: that is refused inside of callbacks. New ones come to the front. */
void sri_ring_turn_clients(sr_ring *ring) {
    do {
        ring->clients_due = false;
        ring->in_callback = true;
        for (struct sri_ring_client *client = ring->clients; client != NULL;
             client = client->next) {
            client->turn(client);
        }
        ring->in_callback = false;
        sri_ring_send_waiting(ring); /* what they asked to end may end here */
    } while (ring->clients_due);
}

bool sri_ring_arm_clients(sr_ring *ring) {
    bool may_look = true;
    for (struct sri_ring_client *client = ring->clients; client != NULL; client = client->next) {
        if (client->arm != NULL && !client->arm(client, &may_look)) {
            return false;
        }
    }
    return true;
}

void sri_ring_awake_clients(sr_ring *ring) {
    for (struct sri_ring_client *client = ring->clients; client != NULL; client = client->next) {
        if (client->awake != NULL) {
            client->awake(client);
        }
    }
}

void sri_ring_tell_clients(sr_ring *ring) {
    ring->in_callback = true;
    for (struct sri_ring_client *client = ring->clients; client != NULL; client = client->next) {
        client->waited(client);
    }
    ring->in_callback = false;
}
