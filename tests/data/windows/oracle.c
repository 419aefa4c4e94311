/* What SetupAPI sees of an INF: oracle.exe FILE SECTION... prints a line's section, key and fields, apart
   by 0x1f, a line each, as UTF-8. Exit status 1, with Windows' error, where it does not open. */
#include <windows.h>
#include <setupapi.h>
#include <stdio.h>

static void put(const wchar_t *text)
{
    static char out[65536];
    int length = WideCharToMultiByte(CP_UTF8, 0, text, -1, out, sizeof out, NULL, NULL);

    if (length > 0)
        fwrite(out, 1, length - 1, stdout);
}

int wmain(int argc, wchar_t **argv)
{
    static wchar_t field[16384];
    UINT line = 0;
    HINF inf = SetupOpenInfFileW(argv[1], NULL, INF_STYLE_WIN4, &line);

    if (inf == INVALID_HANDLE_VALUE) {
        printf("error %08lx in line %u\n", GetLastError(), line);
        return 1;
    }
    for (int section = 2; section < argc; section++) {
        INFCONTEXT at;
        BOOL there = SetupFindFirstLineW(inf, argv[section], NULL, &at);

        for (; there; there = SetupFindNextLine(&at, &at)) {
            put(argv[section]);
            for (DWORD index = 0; index <= SetupGetFieldCount(&at); index++) {
                printf("\x1f");
                if (SetupGetStringFieldW(&at, index, field, 16384, NULL))
                    put(field);
            }
            printf("\n");
        }
    }
    SetupCloseInfFile(inf);
    return 0;
}
