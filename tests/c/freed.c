/* freed.c - asks a gate that was freed: what a sanitizer has to notice inside the library. */
#include <mxgate.h>
#include <string.h>

int main(void)
{
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;
    mxgate_gate *gate = mxgate_new();

    memset(&facts, 0, sizeof facts);
    mxgate_free(gate);
    return mxgate_check_connect(gate, &facts, sizeof facts, &verdict);
}
